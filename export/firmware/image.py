"""Intel HEX: the weight image as text that every flash tool reads."""

__all__ = ["intel_hex"]


def intel_hex(data: bytes) -> bytes:
    """Return an Intel HEX file: records of 16 bytes from address 0, with checksums."""

    def record(address: int, kind: int, payload: bytes) -> str:
        body = bytes([len(payload), *address.to_bytes(2, "big"), kind]) + payload
        return f":{body.hex()}{-sum(body) & 0xFF:02x}\n".upper()

    lines = []
    for start in range(0, len(data), 16):
        if start and start % 0x10000 == 0:
            lines.append(record(0, 4, (start >> 16).to_bytes(2, "big")))
        lines.append(record(start & 0xFFFF, 0, data[start : start + 16]))
    return "".join([*lines, record(0, 1, b"")]).encode()
