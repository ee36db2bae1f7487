// Driver, bus and accelerator together: nupes_driver.c runs the test vectors on the Verilog.
//
// The bus has random pauses, and a memory that answers after some cycles. The program lies at an
// address that is no multiple of 4 KiB, and the memory refuses what lies outside it.

#include <cstdio>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "Vnupes_axi.h"
#include "nupes_driver.h"
#include "verilated.h"

static constexpr unsigned BEAT = NETWORK_DATA_BITS / 8;
static constexpr uint64_t PROGRAM = 0x100000FC0, RESULTS = 0x2000000FC0;
static constexpr unsigned LATENCY = 20;

struct Burst {
    uint64_t address;
    unsigned beats;
    uint64_t due;
};

static std::unique_ptr<Vnupes_axi> top;
static std::vector<uint8_t> program, results;
static std::deque<Burst> reads, writes, answers;
static uint64_t now;
static uint32_t chance = 1;
static unsigned interrupts;
static bool raised;

static bool waits() {
    chance ^= chance << 13;
    chance ^= chance >> 17;
    chance ^= chance << 5;
    return chance % 4 == 0;
}

// A port of at most 64 bits is an integer, a wider one an array of 32-bit words.
static uint8_t *bytes(QData &port) { return reinterpret_cast<uint8_t *>(&port); }
template <std::size_t N>
static uint8_t *bytes(VlWide<N> &port) {
    return reinterpret_cast<uint8_t *>(port.data());
}

static uint8_t *place(std::vector<uint8_t> &memory, uint64_t base, uint64_t address) {
    return address >= base && address + BEAT <= base + memory.size() ? &memory[address - base]
                                                                    : nullptr;
}

// One cycle: the memory's inputs are chosen first, and what passes is what both sides agree on.
static void tick() {
    top->m_axi_arready = reads.size() < 8 && !waits();
    const bool answer = !reads.empty() && now >= reads.front().due && (top->m_axi_rvalid || !waits());
    top->m_axi_rvalid = answer;
    if (answer) {
        const uint8_t *from = place(program, PROGRAM, reads.front().address);
        top->m_axi_rresp = from ? 0 : 3;
        top->m_axi_rlast = reads.front().beats == 1;
        if (from) memcpy(bytes(top->m_axi_rdata), from, BEAT);
    }
    top->m_axi_awready = writes.empty() && !waits();
    top->m_axi_wready = !writes.empty() && !waits();
    top->m_axi_bvalid = !answers.empty() && now >= answers.front().due;
    top->m_axi_bresp = top->m_axi_bvalid && answers.front().beats ? 3 : 0;
    top->aclk = 0;
    top->eval();

    const bool ar = top->m_axi_arvalid && top->m_axi_arready, r = answer && top->m_axi_rready;
    const bool aw = top->m_axi_awvalid && top->m_axi_awready;
    const bool w = top->m_axi_wvalid && top->m_axi_wready;
    const bool b = top->m_axi_bvalid && top->m_axi_bready;
    const Burst read{top->m_axi_araddr, top->m_axi_arlen + 1u, now + LATENCY};
    const Burst write{top->m_axi_awaddr, top->m_axi_awlen + 1u, 0};
    if (r) {
        reads.front().address += BEAT;
        if (--reads.front().beats == 0) reads.pop_front();
    }
    if (ar) reads.push_back(read);
    if (w) {
        Burst &burst = writes.front();
        uint8_t *to = place(results, RESULTS, burst.address);
        burst.due |= to == nullptr;  // here: the burst is bad
        for (unsigned lane = 0; to && lane < BEAT; lane++)
            if (top->m_axi_wstrb >> lane & 1) to[lane] = bytes(top->m_axi_wdata)[lane];
        burst.address += BEAT;
        burst.due |= top->m_axi_wlast != (burst.beats == 1);
        if (--burst.beats == 0) {
            answers.push_back({0, static_cast<unsigned>(burst.due), now + LATENCY});
            writes.pop_front();
        }
    }
    if (aw) writes.push_back(write);
    if (b) answers.pop_front();
    interrupts += top->irq && !raised;
    raised = top->irq;
    top->aclk = 1;
    top->eval();
    now++;
}

extern "C" uint32_t nupes_read(const nupes_device *, uint32_t offset) {
    top->s_axil_araddr = offset;
    top->s_axil_arvalid = 1;
    top->s_axil_rready = 1;
    for (bool taken = false; !taken;) {
        taken = top->s_axil_arready;
        tick();
    }
    top->s_axil_arvalid = 0;
    while (!top->s_axil_rvalid) tick();
    const uint32_t value = top->s_axil_rdata;
    if (top->s_axil_rresp) printf("register %#x cannot be read\n", offset);
    tick();
    return value;
}

extern "C" void nupes_write(const nupes_device *, uint32_t offset, uint32_t value) {
    top->s_axil_awaddr = offset;
    top->s_axil_wdata = value;
    top->s_axil_wstrb = 15;
    top->s_axil_awvalid = top->s_axil_wvalid = 1;
    top->s_axil_bready = 1;
    while (top->s_axil_awvalid || top->s_axil_wvalid) {
        const bool address = top->s_axil_awready, data = top->s_axil_wready;
        tick();
        if (address) top->s_axil_awvalid = 0;
        if (data) top->s_axil_wvalid = 0;
    }
    while (!top->s_axil_bvalid) tick();
    if (top->s_axil_bresp) printf("register %#x cannot be written\n", offset);
    tick();
}

static std::vector<uint8_t> contents(const char *path) {
    std::vector<uint8_t> data;
    if (FILE *file = fopen(path, "rb")) {
        for (int byte; (byte = fgetc(file)) != EOF;) data.push_back(static_cast<uint8_t>(byte));
        fclose(file);
    }
    return data;
}

int main(int argc, char **argv) {
    Verilated::commandArgs(argc, argv);
    top = std::make_unique<Vnupes_axi>();
    program = contents("program.bin");
    results.assign((NETWORK_RESULT_BYTES + 15) / 16 * 16, 0xEE);
    const std::vector<uint8_t> codes = contents("codes.bin"), expected = contents("expected.bin");
    const std::size_t images = codes.size() / NETWORK_CODES;
    if (program.size() != NETWORK_IMAGE_BYTES || images == 0 ||
        expected.size() != images * NETWORK_VALUES * 2) {
        printf("program.bin, codes.bin and expected.bin must be those of the export\n");
        top.reset();
        return 2;
    }
    for (int cycle = 0; cycle < 4; cycle++) tick();
    top->aresetn = 1;
    tick();

    const nupes_device device = {0, program.data(), PROGRAM, results.data(), RESULTS, nullptr,
                                 nullptr};
    std::size_t exact = 0;
    static int16_t y[NETWORK_VALUES];
    for (std::size_t image = 0; image < images; image++) {
        int result = nupes_run(&device, &codes[image * NETWORK_CODES], y, 1000000000);
        if (result != NUPES_RUN_OK) {
            printf("image %zu ended with %d, at address %#llx\n", image, result,
                   static_cast<unsigned long long>(nupes_error_address(&device)));
            top.reset();
            return 1;
        }
        exact += memcmp(y, &expected[image * NETWORK_VALUES * 2], sizeof y) == 0;
        printf("image %zu: %llu cycles\n", image,
               static_cast<unsigned long long>(nupes_cycles(&device)));
    }

    // The interrupt, and an error of the bus.
    nupes_set_input(&device, codes.data());
    nupes_start(&device, 1);
    while (!top->irq) tick();
    const bool ended = nupes_wait(&device, 1000) == NUPES_RUN_OK;
    nupes_acknowledge(&device);
    const bool interrupted = ended && interrupts == 1 && !top->irq;
    nupes_device lost = device;
    lost.program_address = PROGRAM + 0x10000000;
    const bool refused = nupes_start(&lost, 0) == 0 &&
                         nupes_wait(&lost, 100000) == NUPES_RUN_READ_DECERR &&
                         nupes_error_address(&lost) == lost.program_address;
    const bool again = nupes_run(&device, codes.data(), y, 1000000000) == NUPES_RUN_OK &&
                       memcmp(y, expected.data(), sizeof y) == 0;

    printf("bit-exact %zu/%zu images, interrupt %s, bus error %s\n", exact, images,
           interrupted ? "raised" : "MISSING", refused && again ? "reported" : "LOST");
    top->final();
    top.reset();  // before what it simulates with
    return exact == images && interrupted && refused && again ? 0 : 1;
}
