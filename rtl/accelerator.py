"""The accelerator: control, activation memory and datapath, wired."""

from amaranth.hdl import Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Status
from nupes.rtl.control.descriptors import DescriptorFile
from nupes.rtl.control.fetcher import BurstRequest, Fetcher
from nupes.rtl.control.run_control import RunControl
from nupes.rtl.control.sequencer import Sequencer
from nupes.rtl.control.stream import StreamEngine
from nupes.rtl.datapath.datapath import Datapath
from nupes.rtl.datapath.delays import delay
from nupes.rtl.datapath.max_pool import PoolUnit
from nupes.rtl.datapath.statistics import Statistics
from nupes.rtl.emit import Library, place
from nupes.rtl.interface import RESULT_BITS
from nupes.rtl.memory.activation import ActivationMemory
from nupes.rtl.memory.residual_reader import ResidualReader
from nupes.rtl.memory.stationary import StationaryReader
from nupes.rtl.memory.store_queue import StoredWord, StoreQueue
from nupes.rtl.memory.tokens import TokenMemory
from nupes.rtl.memory.writeback import Writeback

__all__ = ["Accelerator"]


class Accelerator(wiring.Component):
    """Run the program in external memory; see docs/hardware.md for the ports and every cycle.

    The control blocks are held in reset between runs, so a run that was cut short leaves nothing
    behind; the datapath has drained by the time the accelerator is ``idle`` again.
    """

    start: Signal
    length: Signal
    idle: Signal
    done: Signal
    status: Signal
    mark: Signal
    request: stream.Interface
    response: stream.Interface
    result: stream.Interface
    store: stream.Interface
    stored: Signal

    def __init__(self, config: ArrayConfig, library: Library | None = None) -> None:
        self.config = config
        self.library = library
        spills = {"store": Out(stream.Signature(StoredWord(config))), "stored": In(1)}
        super().__init__(
            {
                "start": In(1),
                "length": In(32),
                "idle": Out(1),
                "done": Out(1),
                "status": Out(Status),
                "mark": Out(1),
                "request": Out(stream.Signature(BurstRequest())),
                "response": In(stream.Signature(config.port_bits, always_ready=True)),
                "result": Out(stream.Signature(RESULT_BITS * config.cols)),
                # What is stored in the program's memory; all that was taken is there.
                **(spills if config.spills else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        control = RunControl(config)
        fetcher = Fetcher(config)
        sequencer = Sequencer(config)
        engine = StreamEngine(config)
        memory = ActivationMemory(config, self.library)
        reader = ResidualReader(config)
        writeback = Writeback(config)
        datapath = Datapath(config, self.library)
        pool = PoolUnit(config)
        per_run = ResetInserter(~control.run)
        retire: Value = writeback.retire
        empty: Value = writeback.results_empty
        progress = sequencer.consume | engine.issue | writeback.progress
        m.submodules.run_control = control
        m.submodules.fetcher = fetcher
        m.submodules.sequencer = per_run(sequencer)
        m.submodules.stream_engine = per_run(engine)
        m.submodules.activation_memory = memory
        m.submodules.residual_reader = per_run(reader)
        m.submodules.writeback = per_run(writeback)
        m.submodules.datapath = datapath
        m.submodules.pool_unit = pool

        if config.attention:
            retire = self._attend(
                m, per_run, sequencer, engine, memory, reader, writeback, datapath
            )

        if config.spills:
            m.submodules.store_queue = queue = per_run(StoreQueue(config))
            connect(m, queue.stored, flipped(self.store))
            m.d.comb += [
                queue.control.eq(engine.store),
                queue.word.eq(memory.stream.data),
                engine.store_taken.eq(queue.taken),
                sequencer.written.eq(self.stored),
            ]
            retire, empty = retire | queue.retire, empty & queue.empty
            progress |= queue.taken

        # The run.
        m.d.comb += [
            control.start.eq(self.start),
            control.finish.eq(sequencer.finish),
            control.progress.eq(progress),
            control.fetch_idle.eq(fetcher.idle),
            fetcher.run.eq(control.run),
            fetcher.length.eq(self.length),
            self.idle.eq(control.idle),
            self.done.eq(control.done),
            self.status.eq(control.status),
            self.mark.eq(engine.mark),
        ]

        # The program: external memory, fetcher, sequencer, loads, weights, tiles.
        connect(m, fetcher.request, flipped(self.request))
        connect(m, flipped(self.response), fetcher.response)
        connect(m, fetcher.words, sequencer.words)
        connect(m, sequencer.tile, engine.tile)
        connect(m, sequencer.load, engine.load, memory.load, datapath.load)
        m.d.comb += [
            engine.loaded.eq(sequencer.loaded),
            sequencer.begun.eq(engine.begun),
        ]

        # The words: activation memory, array, max-pool unit.
        m.d.comb += [
            memory.stream.address.eq(engine.address),
            datapath.feed.eq(engine.feed),
            datapath.control.eq(engine.control),
            datapath.link.eq(engine.link),
            datapath.word.eq(memory.stream.data),
            pool.control.eq(engine.pool),
            pool.word.eq(memory.stream.data),
            datapath.residual.eq(reader.joined),
        ]
        if config.joins:
            m.d.comb += datapath.lower.eq(memory.second.data)
        if config.reads_pairs:
            m.d.comb += memory.second.address.eq(engine.second_address)
        connect(m, engine.residuals, reader.requests)
        if not config.attention:
            connect(m, sequencer.weights, datapath.weights)
            for port, memory_port in zip(reader.memory, memory.residual, strict=True):
                connect(m, port, memory_port)

        # The results: write-back, activation memory, host.
        connect(m, engine.outputs, writeback.outputs)
        for port, memory_port in zip(writeback.write, memory.write, strict=True):
            connect(m, port, memory_port)
        connect(m, writeback.result, flipped(self.result))
        m.d.comb += [
            writeback.control.eq(datapath.result_control),
            writeback.results.eq(datapath.results),
            writeback.pool_valid.eq(pool.valid),
            writeback.pool_end.eq(pool.end),
            writeback.pool_joined.eq(pool.joined),
            sequencer.retire.eq(retire),
            engine.retire.eq(retire),
            engine.result_taken.eq(writeback.result_taken),
            sequencer.write_busy.eq(memory.write_busy),
            sequencer.results_empty.eq(empty),
        ]
        return m

    def _attend(
        self,
        m: Module,
        per_run: ResetInserter,
        sequencer: Sequencer,
        engine: StreamEngine,
        memory: ActivationMemory,
        reader: ResidualReader,
        writeback: Writeback,
        datapath: Datapath,
    ) -> Value:
        """Add what arrays with attention have besides; return when a tile retires."""
        config = self.config
        stationary = StationaryReader(config, self.library)
        tokens = place(m, self.library, "token_memory", TokenMemory, config)
        statistics = Statistics(config, self.library)
        m.submodules.stationary_reader = per_run(stationary)
        m.submodules.statistics = per_run(statistics)

        # Weights come from the program or, over the residual port, from the memory.
        instruction = sequencer.instruction
        m.submodules.weight_steps = steps = per_run(DescriptorFile(config))
        connect(m, sequencer.load, steps.load, statistics.load)
        m.d.comb += [
            steps.slot.eq(instruction.descriptor),
            stationary.start.eq(sequencer.stationary),
            stationary.address.eq(instruction.weight_address),
            stationary.step.eq(steps.descriptor.weight_step),
            stationary.rows.eq(instruction.rows),
            stationary.slice.eq(instruction.weight_slice),
            stationary.slot.eq(instruction.weight_slot),
            stationary.transposed.eq(instruction.transposed),
            sequencer.stationary_last.eq(stationary.last),
        ]
        for name in sequencer.weights.signature.members:
            stored, given = getattr(stationary.weights, name), getattr(sequencer.weights, name)
            value = Mux(stationary.weights.valid, Value.cast(stored), Value.cast(given))
            m.d.comb += Value.cast(getattr(datapath.weights, name)).eq(value)
        first, second = reader.memory
        port = memory.residual[0]
        connect(m, second, memory.residual[1])
        m.d.comb += [
            port.address.eq(Mux(stationary.busy, stationary.memory.address, first.address)),
            first.data.eq(port.data),
            stationary.memory.data.eq(port.data),
        ]

        # Factors of tokens: lane 0 needs one with its sum.
        arrival = config.issue_to_psum + config.product_stages
        used = delay(m, engine.control.token, arrival, "token_used")
        address = delay(m, engine.control.acc_address, arrival, "token_address", reset_less=True)
        m.d.comb += [
            statistics.control.eq(engine.measure),
            statistics.constants.eq(engine.constants),
            statistics.upper.eq(memory.stream.data),
            statistics.lower.eq(memory.second.data),
            statistics.gathered.eq(writeback.gathered),
            statistics.digits.eq(writeback.digits),
            tokens.valid.eq(statistics.valid),
            tokens.token.eq(statistics.token),
            tokens.written.eq(statistics.factor),
            tokens.used.eq(used),
            tokens.address.eq(address),
            datapath.factor.eq(tokens.factor),
        ]
        return writeback.retire | statistics.end
