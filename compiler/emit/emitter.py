"""The emitter: turns the work of layers into instructions, in program order."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from operator import is_

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import LAG_FREE, Destination
from nupes.compiler.emit.arrival import Arrival, Lines, input_loads
from nupes.compiler.emit.dependencies import Latest, lag_after
from nupes.compiler.emit.descriptors import Descriptor, Results, TokenFields
from nupes.compiler.emit.instructions import (
    Instruction,
    Load,
    Measure,
    Pool,
    Streaming,
    Tile,
    TileSlots,
)
from nupes.compiler.emit.openings import Openings, patch_run
from nupes.compiler.emit.outside import Outside
from nupes.compiler.emit.residency import Residency, load_of
from nupes.compiler.lowering.passes import (
    ArrayWork,
    Bring,
    Column,
    Finish,
    Pass,
    PatchStream,
    Payload,
    PoolWork,
    Put,
    Second,
    Statistics,
    Step,
    Stored,
)
from nupes.compiler.lowering.walks import Walk
from nupes.compiler.place.layout import Region, Run, TensorLayout, blocks

__all__ = ["Emitter", "ResultTile"]

MOST_PIXELS = (1 << 16) - 1


@dataclass(frozen=True, slots=True)
class ResultTile:
    """Which results one block of a layer emits, by its name: channels from ``channel`` on, pixels
    of a region from ``first`` on, of an ``image`` of a batch and those that follow it.
    """

    layer: str
    channel: int
    region: Region
    first: int
    count: int
    image: int = 0


@dataclass
class Emitter:
    """The program so far, what is resident, and who wrote which word."""

    config: ArrayConfig
    instructions: list[Instruction] = field(default_factory=list)
    results: list[ResultTile] = field(default_factory=list)
    tiles: int = 0

    def __post_init__(self) -> None:
        self.residency = Residency(self.config)
        self.writers = Latest(self.config.act_depth)
        self.users = Latest(self.config.act_depth)  # writers, and those that read
        self.arrival = Arrival(self.users)
        self.outside = Outside(self.config, self.users, self.writers)
        self.lines: Lines | None = None
        self.image = 0
        self.unmarked = True
        self.residual_user = -1  # the last tile that reads at the residual port
        self.descriptors: dict[tuple, Descriptor] = {}  # of the work at hand
        self.openings = Openings(self.writers)  # of the block at hand
        # What the latest tile depends on but its parameters, and what it was given.
        self.latest: tuple[tuple, tuple[Descriptor, TileSlots]] | None = None

    def begin(self, image: int) -> None:
        """Begin with an image of a batch."""
        self.image = image
        self.arrival.begin(image)

    def plain_input(self, layout: TensorLayout, shared: bool) -> None:
        """Load an input that lies in memory like any tensor, or between those of other images."""
        runs = [(layout.base, layout.base + layout.words)]
        if shared:
            planes, groups = range(layout.planes), range(layout.groups)
            runs = [layout.row_run(p, g, 0, layout.height) for p in planes for g in groups]
        for run in runs:
            # Tiles that chase an earlier image wait for the address of the last LOAD.
            user = max(self.users.newest([run]), self.arrival.chaser)
            self.instructions += input_loads(run, self.image, lag_after(user, self.tiles))

    def packed_lines(self, layout: TensorLayout) -> None:
        """Load an input row by row, where the next layer needs it."""
        self.lines = Lines(layout, self.users, self.image)

    def constant(self, load: Load) -> None:
        """Load a constant tensor, in parts that instructions can count."""
        self.instructions += (load.part(*part) for part in blocks(load.words, MOST_PIXELS))

    def layer(self, name: str, *works: Iterable[Step]) -> int:
        """Emit a layer, its work on one image after another; return how many tiles it has."""
        before, self.unmarked = self.tiles, True
        image = self.image
        for self.image, work in enumerate(works, image):
            for item in work:
                if isinstance(item, Bring):
                    self.instructions += self.outside.bring(item, self.image, self.tiles)
                elif isinstance(item, Put):
                    store = self.outside.put(item, self.image, self.tiles, self.residency)
                    self.emit(store, (), store.reads)
                    self.latest = None
                elif isinstance(item, PoolWork):
                    self.pool(item)
                else:
                    self.array(name, item)
        self.image = image
        return self.tiles - before

    def array(self, name: str, work: ArrayWork) -> None:
        """Emit blocks of pixels, column tiles, passes."""
        self.descriptors.clear()
        for first, count in work.blocks(self.config):
            self.openings.clear()
            if work.statistics is not None:
                self.measure(work.statistics, first, count)
            if self.lines is not None:
                self.instructions += self.lines.precede(work, first, count, self.tiles)
            for column in work.columns:
                for index in range(len(column.passes)):
                    self.tile(name, work, column, index, first, count)
        self.instructions += self.arrival.flush(self.tiles)

    def tile(
        self, name: str, work: ArrayWork, column: Column, index: int, first: int, count: int
    ) -> None:
        """Emit the TILE of pass ``index`` of a column tile, over a block or the first pixels of
        it."""
        finish, region, stationary = work.finish, work.region, column.passes[index].stationary
        item, left = column.passes[index], len(column.passes) - 1 - index
        count = count if item.count is None else item.count
        stream, target = item.stream, finish.target
        last, multiplies = left == 0, item.times is not None
        group, part = divmod(column.index * self.config.cols, self.config.lanes)
        walk, start, reads, after = self.openings.of(item, first, count)
        if isinstance(stream, PatchStream):
            # The first pixel needs all of the lower plane.
            needed = 1 + stream.layout.lower(first) * stream.joined
            run = patch_run(stream, first)
            self.instructions += self.arrival.precede(first, run, self.tiles, needed)
        second = item.times if multiplies else finish.residual
        descriptor, slots = self.settings(name, work, item, walk, left)
        weight_lag = LAG_FREE
        if isinstance(stationary, Stored):
            user = max(self.writers.newest([stationary.reads]), self.residual_user)
            weight_lag = lag_after(user, self.tiles)
        residual_address = 0
        if last or multiplies:
            param = self.residency.parameters(name, finish.requantize, column.index, second)
            slots = replace(slots, param=param)
            if second is not None:
                self.residual_user = self.tiles
                layout = second.layout
                residual_address, runs = layout.address(0, group), layout.pixel_runs(group, 0, 1)
                if not serves_all(second):
                    residual_address += region.offset(first, layout.width)
                    runs = layout.region_runs(group, region, first, count)
                runs = list(runs)
                reads, after = (*reads, *runs), max(after, self.writers.newest(runs))
        out_address, writes = 0, ()
        if last and target is None:
            channel = column.index * self.config.cols
            self.results.append(ResultTile(name, channel, region, first, count, self.image))
        elif last and target is not None:
            out_address = target.layout.address(0, group)
            out_address += region.offset(first, target.layout.width)
            writes = target.layout.region_runs(group, region, first, count)
        gathers = last and work.gathers is not None
        tile = Tile(
            start=start,
            descriptor=descriptor,
            slots=slots,
            count=count,
            after=after,
            lag=lag_after(after, self.tiles),
            mark=self.unmarked,
            out_address=out_address,
            payload=stationary,
            first=index == 0,
            finish=last,
            multiplies=multiplies,
            slice=item.slice,
            joined=stream.joined,
            kept=index > 0 and stays(column.passes[index - 1], item),
            out_slice=part // self.config.cols,
            shift=0 if item.tables is None else item.tables.shift,
            residual_address=residual_address,
            chase=start.address if self.arrival.chases(self.tiles) else -1,
            weight_lag=weight_lag,
            gathers=gathers,
            gathers_first=gathers and column is work.columns[0],
            gathers_last=gathers and column is work.columns[-1],
            warm_up=item.warm_up,
        )
        stored = [stationary.reads] if isinstance(stationary, Stored) else []
        self.emit(tile, writes, (*reads, *stored))
        if isinstance(stream, PatchStream):
            self.instructions += self.arrival.follow(self.tiles)

    def settings(
        self, name: str, work: ArrayWork, item: Pass, walk: Walk, ahead: int
    ) -> tuple[Descriptor, TileSlots]:
        """Return the descriptor of a pass, and the slots of all that it needs but its parameters:
        tables, and an encoder, whose first results come ``ahead`` tiles after the next one."""
        tables, target = item.tables, work.finish.target
        stored = isinstance(item.stationary, Stored)
        key = work.finish, tables, walk, item.times, stored
        # Statistics share the memory of the tables, and take turns with them.
        alone = work.gathers is None
        if alone and self.latest is not None and all(map(is_, key, self.latest[0])):
            self.residency.again()
            return self.latest[1]
        weight = activation = encoder = depth = 0
        if tables is not None:
            weight = self.residency.table(Destination.WEIGHT_TABLE, tables.weight)
            activation = self.residency.table(Destination.ACTIVATION_TABLE, tables.activation)
            if tables.products is not None:
                self.residency.products(tables.products)
        if target is not None:
            encoder, depth = self.residency.encoder(name, target, ahead)
        descriptor = self.descriptor(work, item, walk, (encoder, depth))
        slot = self.residency.descriptor(descriptor)
        self.residency.hold()
        slots = TileSlots(descriptor=slot, weight=weight, activation=activation)
        self.latest = (key, (descriptor, slots)) if alone else None
        return descriptor, slots

    def descriptor(
        self, work: ArrayWork, item: Pass, walk: Walk, encoder: tuple[int, int]
    ) -> Descriptor:
        """Return the descriptor of a pass; tiles of the same work share it."""
        second, table = work.finish.residual if item.times is None else item.times, 0
        if work.gathers is not None:
            table = self.statistics_table(work.gathers)
        key = (walk, second, isinstance(item.stationary, Stored), encoder, table)
        if key not in self.descriptors:
            fields = token_fields(item, work.finish, second)
            if work.gathers is not None:
                numbers = work.gathers.numbers - work.columns[-1].index * self.config.cols
                edge = min(numbers, self.config.cols)
                fields = statistics_fields(fields, work.gathers, edge, table)
            results = replace(
                results_of(work.finish, second, work.region),
                encoder_slot=encoder[0],
                encoder_depth=encoder[1],
            )
            self.descriptors[key] = Descriptor(walk, results, fields)
        return self.descriptors[key]

    def measure(self, work: Statistics, first: int, count: int) -> None:
        """Emit the MEASURE of a block of tokens."""
        self.latest = None
        stream = work.stream
        edge = work.numbers - (work.layout.groups - 1) * self.config.lanes
        fields = statistics_fields(TokenFields(), work, edge, self.statistics_table(work))
        descriptor = Descriptor(stream.walk, Results(), fields)
        after = self.writers.newest(work.reads(first, count))
        item = Measure(
            start=stream.walk.start(stream.layout, stream.plane, stream.group, 0, 0, first),
            descriptor=descriptor,
            slots=TileSlots(descriptor=self.residency.descriptor(descriptor)),
            count=count,
            after=after,
            lag=lag_after(after, self.tiles),
            mark=self.unmarked,
        )
        self.emit(item, (), work.reads(first, count))

    def statistics_table(self, work: Statistics) -> int:
        """Return the slot of the table with which levels are decoded, 0 if there is none."""
        if work.table is None:
            return 0
        return self.residency.table(Destination.ACTIVATION_TABLE, work.table)

    def pool(self, work: PoolWork) -> None:
        """Emit a max-pool: POOLs of each channel group."""
        self.latest = None
        target = work.target
        results = stored_results(target, Region(target.height, target.width))
        for group, stream in enumerate(work.streams):
            descriptor, after = Descriptor(stream.walk, results), self.writers.newest(work.reads)
            for first, count in work.blocks(MOST_PIXELS):
                pool = Pool(
                    start=stream.walk.start(
                        stream.layout, stream.plane, stream.group, stream.y, stream.x, first
                    ),
                    descriptor=descriptor,
                    slots=TileSlots(descriptor=self.residency.descriptor(descriptor)),
                    count=count,
                    after=after,
                    lag=lag_after(after, self.tiles),
                    mark=self.unmarked,
                    out_address=target.address(0, group) + first,
                )
                self.emit(pool, target.pixel_runs(group, first, count), work.reads)

    def emit(self, tile: Streaming, writes: Iterable[Run], reads: Iterable[Run]) -> None:
        """Append a TILE, POOL or MEASURE after the LOADs that it needs."""
        for entries, user, ahead in self.residency.take(self.tiles):
            self.instructions.append(load_of(entries, user, self.tiles + ahead, self.config))
        self.instructions.append(tile)
        self.unmarked = False
        writes = list(writes)
        self.writers.note(writes, self.tiles)
        self.openings.note(writes)
        self.users.note([*writes, *reads], self.tiles)
        self.tiles += 1


def stored_results(layout: TensorLayout, region: Region) -> Results:
    """Return how the results of a region are stored."""
    return Results(
        out_step=region.step(layout.width),
        out_row_step=region.row_step(layout.width),
        out_plane_step=layout.plane_step,
        out_planes=layout.planes,
    )


def results_of(finish: Finish, second: Second | None, region: Region) -> Results:
    """Return where results go and what comes through the residual port, the encoder's slot still to
    come."""
    results = Results()
    if finish.target is not None:
        results = stored_results(finish.target.layout, region)
    if second is None:
        return results
    steps = region.step(second.layout.width), region.row_step(second.layout.width)
    step, row_step = (0, 0) if serves_all(second) else steps
    return replace(
        results,
        residual_step=step,
        residual_row_step=row_step,
        residual_plane_step=second.layout.plane_step,
        residual_planes=second.layout.planes,
    )


def serves_all(second: Second) -> bool:
    """Whether a tensor is one pixel, which every pixel of a result reads."""
    return second.layout.pixels == 1


def stays(before: Pass, item: Pass) -> bool:
    """Whether a pass has the weights of the one before, which the cells hold still."""
    payload = item.stationary
    return isinstance(payload, Payload) and payload.rows > 0 and payload is before.stationary


def token_fields(item: Pass, finish: Finish, second: Second | None) -> TokenFields:
    """Return what arrays with attention must know of a pass, and of what follows."""
    return TokenFields(
        out_wide=finish.target is not None and finish.target.encoder is None,
        residual_wide=second is not None and second.wide,
        scaled=finish.scaled,
        weight_step=int(isinstance(item.stationary, Stored)),
    )


def statistics_fields(fields: TokenFields, work: Statistics, edge: int, table: int) -> TokenFields:
    """Return the fields with those of the statistics unit, whose decode table is in a slot."""
    return replace(
        fields,
        statistic=work.statistic,
        linear=work.table is None,
        odd=work.odd,
        level_offset=work.offset,
        edge=edge,
        channels=work.channels,
        epsilon=work.epsilon,
        table=table,
    )
