// The bench around one accelerator on an AXI4 bus: testbench.v with a bus. The same jobs, files and parameters, but that
// words are beats of DATA_BITS, and that software is here: it writes the registers, waits for the interrupt, reads how
// the run went, and takes the results from memory.
//
//   job.hex      read   the sixteen words JOB_* below
//   program.hex  read   if JOB_LOAD: the memory of the program, beat by beat
//   patch.hex    read   if JOB_PATCH: beats with their addresses, written over it
//   marks.txt    written while the run lasts: one stamp per mark (decimal)
//   results.txt  written at its end: one word per result in memory (hexadecimal, lane 0 in the low bits)
//   report.txt   written at its end: "status cycles idle marks results resets", as the registers have them
//
// Cycles count from 0 in the first cycle of the run, as CYCLES does. A burst accepted on AR in cycle n delivers its first
// beat in cycle max(n + latency, cycle after the previous burst's last beat), then one beat per cycle; the response of a
// burst of writes comes `latency` cycles after its last beat. Up to eight bursts of each kind may wait. A beat beyond the
// program, or outside the buffer of results, is answered DECERR.

`timescale 1ns / 1ns

module testbench;
  parameter DATA_BITS = 64;
  parameter COLS = 16;
  parameter MEMORY_WORDS = 1048576;

  localparam JOB_LOAD = 0;           // 1: read program.hex
  localparam JOB_PATCH = 1;          // 1: read patch.hex
  localparam JOB_WORDS = 2;          // beats of the program image
  localparam JOB_LATENCY = 3;        // cycles from a burst to its first beat, at least 1
  localparam JOB_SEED = 4;           // of the stalls, not 0
  localparam JOB_STALL_REQUEST = 5;  // probability of a stall of arready and awready in 1/256
  localparam JOB_STALL_RESPONSE = 6; // the same for rvalid and bvalid; 256: the memory never answers
  localparam JOB_STALL_RESULT = 7;   // the same for wready
  localparam JOB_RESET = 8;          // reset in this cycle of a first run, then run again; 0: never
  localparam JOB_LIMIT = 9;          // cycles after which a run that has not ended is reset and reported
  localparam JOB_STALL_SINCE = 10;   // the first cycle of a run that may stall
  localparam JOB_LENGTH = 11;        // port words of the program

  // Registers, as in arch/registers.py.
  localparam CONTROL = 12'h014;
  localparam STATUS = 12'h018;
  localparam PROGRAM_LENGTH = 12'h01C;
  localparam PROGRAM_LOW = 12'h020;
  localparam PROGRAM_HIGH = 12'h024;
  localparam RESULT_LOW = 12'h028;
  localparam RESULT_HIGH = 12'h02C;
  localparam RESULT_LIMIT = 12'h030;
  localparam RESULT_COUNT = 12'h034;
  localparam CYCLES_LOW = 12'h040;
  localparam INTERRUPT_ENABLE = 12'h048;
  localparam INTERRUPT_STATE = 12'h04C;

  localparam BEAT_BYTES = DATA_BITS / 8;
  localparam BUFFER_BEATS = 262144;
  localparam BUFFER_HIGH = 32'd1; // upper half of the buffer's address; the program's is 0
  localparam BUFFER_LIMIT = BUFFER_BEATS * (DATA_BITS / 16) / COLS;

  localparam POWER_UP = 0, WAITING = 1, WRITING = 2, STARTING = 3, RUNNING = 4, RESETTING = 5;
  localparam ASKING = 6, DRAINING = 7, READING = 8, REPORTING = 9;
  localparam POWER_UP_CYCLES = 4;
  localparam DRAIN_CYCLES = 4096; // beyond latency; an accelerator that is not idle by then is reset and reported

  reg clk = 0;
  reg rst = 1;
  always #1 clk = ~clk;

  reg strobe /* verilator public_flat_rw */ = 0;
  reg finished /* verilator public_flat_rw */ = 0;

  reg [31:0] job[0:15];
  reg [DATA_BITS-1:0] memory[0:MEMORY_WORDS-1];
  reg [DATA_BITS-1:0] buffer[0:BUFFER_BEATS-1];

  // The accelerator.

  wire irq, mark;
  wire arid, arvalid, rready, awid, awvalid, wlast, wvalid, bready;
  wire [63:0] araddr, awaddr;
  wire [7:0] arlen, awlen;
  wire [2:0] arsize, awsize, arprot, awprot;
  wire [1:0] arburst, awburst;
  wire [3:0] arcache, awcache;
  wire [DATA_BITS-1:0] wdata;
  wire [BEAT_BYTES-1:0] wstrb;
  reg rvalid = 0, rlast = 0, bvalid = 0;
  reg [DATA_BITS-1:0] rdata = 0;
  reg [1:0] rresp = 0, bresp = 0;
  wire arready, awready, wready;

  reg [11:0] set_address = 0, get_address = 0;
  reg [31:0] set_data = 0;
  reg set_addressed = 0, set_given = 0, get_valid = 0;
  wire set_address_ready, set_data_ready, set_done, get_ready, got;
  wire [1:0] set_response, get_response;
  wire [31:0] get_data;

  nupes_axi axi (
      .aclk(clk),
      .aresetn(!rst),
      .irq(irq),
      .mark(mark),
      .m_axi_arid(arid),
      .m_axi_araddr(araddr),
      .m_axi_arlen(arlen),
      .m_axi_arsize(arsize),
      .m_axi_arburst(arburst),
      .m_axi_arcache(arcache),
      .m_axi_arprot(arprot),
      .m_axi_arvalid(arvalid),
      .m_axi_arready(arready),
      .m_axi_rid(1'b0),
      .m_axi_rdata(rdata),
      .m_axi_rresp(rresp),
      .m_axi_rlast(rlast),
      .m_axi_rvalid(rvalid),
      .m_axi_rready(rready),
      .m_axi_awid(awid),
      .m_axi_awaddr(awaddr),
      .m_axi_awlen(awlen),
      .m_axi_awsize(awsize),
      .m_axi_awburst(awburst),
      .m_axi_awcache(awcache),
      .m_axi_awprot(awprot),
      .m_axi_awvalid(awvalid),
      .m_axi_awready(awready),
      .m_axi_wdata(wdata),
      .m_axi_wstrb(wstrb),
      .m_axi_wlast(wlast),
      .m_axi_wvalid(wvalid),
      .m_axi_wready(wready),
      .m_axi_bid(1'b0),
      .m_axi_bresp(bresp),
      .m_axi_bvalid(bvalid),
      .m_axi_bready(bready),
      .s_axil_awaddr(set_address),
      .s_axil_awprot(3'b0),
      .s_axil_awvalid(set_addressed),
      .s_axil_awready(set_address_ready),
      .s_axil_wdata(set_data),
      .s_axil_wstrb(4'b1111),
      .s_axil_wvalid(set_given),
      .s_axil_wready(set_data_ready),
      .s_axil_bresp(set_response),
      .s_axil_bvalid(set_done),
      .s_axil_bready(1'b1),
      .s_axil_araddr(get_address),
      .s_axil_arprot(3'b0),
      .s_axil_arvalid(get_valid),
      .s_axil_arready(get_ready),
      .s_axil_rdata(get_data),
      .s_axil_rresp(get_response),
      .s_axil_rvalid(got),
      .s_axil_rready(1'b1)
  );

  // What nothing here depends on.
  wire unused = &{1'b0, arid, awid, arsize, awsize, arprot, awprot, arburst, awburst, arcache, awcache, araddr, awaddr,
                  set_response, get_response};

  // Stalls: one draw per cycle of a run and channel.

  reg [3:0] state = POWER_UP;
  reg [31:0] cycle = 0;
  reg [31:0] random = 1;
  wire [31:0] random_1 = random ^ (random << 13);
  wire [31:0] random_2 = random_1 ^ (random_1 >> 17);
  wire stalling = state == RUNNING & cycle >= job[JOB_STALL_SINCE];
  wire stall_request = stalling & ({24'd0, random[7:0]} < job[JOB_STALL_REQUEST]);
  wire stall_response = stalling & ({24'd0, random[15:8]} < job[JOB_STALL_RESPONSE]);
  wire stall_result = stalling & ({24'd0, random[23:16]} < job[JOB_STALL_RESULT]);

  // Reads. Bursts wait in a ring, the head is being delivered; due is a value of `now`.

  reg [31:0] now = 0;
  reg [31:0] read_beat[0:7], read_due[0:7];
  reg [8:0] read_left[0:7];
  reg read_bad[0:7];
  reg [2:0] read_head = 0, read_tail = 0;
  reg [3:0] read_count = 0;
  reg accept_reads = 0;
  assign arready = accept_reads;

  always @(posedge clk) begin
    now <= now + 1;
    if (rst) begin
      read_head = 0;
      read_tail = 0;
      read_count = 0;
      rvalid <= 0;
      accept_reads <= 0;
    end else begin
      if (arvalid & arready) begin
        read_beat[read_tail] = araddr[31:0] / BEAT_BYTES;
        read_left[read_tail] = {1'b0, arlen} + 1;
        read_bad[read_tail] = araddr[63:32] != 0;
        read_due[read_tail] = now + job[JOB_LATENCY];
        read_tail = read_tail + 1;
        read_count = read_count + 1;
      end
      if (!rvalid | rready) begin
        rvalid <= 0;
        if (read_count != 0 & $signed(now + 1 - read_due[read_head]) >= 0 & !stall_response) begin
          rvalid <= 1;
          rdata <= read_beat[read_head] < job[JOB_WORDS] ? memory[read_beat[read_head]] : {DATA_BITS{1'b0}};
          rresp <= read_beat[read_head] < job[JOB_WORDS] & !read_bad[read_head] ? 2'b00 : 2'b11;
          rlast <= read_left[read_head] == 1;
          read_beat[read_head] = read_beat[read_head] + 1;
          read_left[read_head] = read_left[read_head] - 1;
          if (read_left[read_head] == 0) begin
            read_head = read_head + 1;
            read_count = read_count - 1;
          end
        end
      end
      accept_reads <= read_count < 8 & !stall_request;
    end
  end

  // Writes. Data is taken once its burst is known.

  reg [31:0] write_beat = 0;
  reg [8:0] write_left = 0;
  reg write_bad = 0;
  reg [31:0] answer_due[0:7];
  reg answer_bad[0:7];
  reg [2:0] answer_head = 0, answer_tail = 0;
  reg [3:0] answer_count = 0;
  reg accept_writes = 0, accept_data = 0;
  assign awready = accept_writes & write_left == 0;
  assign wready = accept_data & write_left != 0;

  integer lane;

  always @(posedge clk) begin
    if (rst) begin
      write_left = 0;
      answer_head = 0;
      answer_tail = 0;
      answer_count = 0;
      bvalid <= 0;
      accept_writes <= 0;
      accept_data <= 0;
    end else begin
      if (wvalid & wready) begin
        write_bad = write_bad | write_beat >= BUFFER_BEATS;
        for (lane = 0; lane < BEAT_BYTES; lane = lane + 1)
          if (wstrb[lane] & !write_bad) buffer[write_beat][8*lane+:8] = wdata[8*lane+:8];
        write_beat = write_beat + 1;
        write_left = write_left - 1;
        write_bad = write_bad | wlast != (write_left == 0);
        if (write_left == 0) begin
          answer_due[answer_tail] = now + job[JOB_LATENCY];
          answer_bad[answer_tail] = write_bad;
          answer_tail = answer_tail + 1;
          answer_count = answer_count + 1;
        end
      end
      if (awvalid & awready) begin
        write_beat = awaddr[31:0] / BEAT_BYTES;
        write_left = {1'b0, awlen} + 1;
        write_bad = awaddr[63:32] != BUFFER_HIGH;
      end
      if (!bvalid | bready) begin
        bvalid <= 0;
        if (answer_count != 0 & $signed(now + 1 - answer_due[answer_head]) >= 0 & !stall_response) begin
          bvalid <= 1;
          bresp <= answer_bad[answer_head] ? 2'b11 : 2'b00;
          answer_head = answer_head + 1;
          answer_count = answer_count - 1;
        end
      end
      accept_writes <= answer_count < 8 & !stall_request;
      accept_data <= !stall_result;
    end
  end

  // Software, jobs and stamps.

  reg strobe_seen = 0;
  reg [31:0] waited = 0;
  reg [31:0] mark_count = 0;
  reg [31:0] result_count = 0;
  reg [31:0] loaded = 0; // beats of the present image
  reg [31:0] poisoned = BUFFER_BEATS; // beats of the buffer that a run may have written
  reg repeated = 0; // the reset of JOB_RESET has been made
  reg ended = 0; // the interrupt was raised
  reg idle = 0;
  reg [3:0] final_status = 0;
  reg [31:0] final_cycle = 0;
  reg [3:0] step = 0;

  integer i, place, report, marks, results;

  initial begin
    // Every job starts from a fully known memory, in four-state simulators as well.
    for (i = 0; i < 16; i = i + 1) job[i] = 0;
    for (i = 0; i < MEMORY_WORDS; i = i + 1) memory[i] = 0;
  end

  task read_job;
    begin
      $readmemh("job.hex", job);
      if (job[JOB_LOAD] != 0) begin
        $readmemh("program.hex", memory);
        for (i = job[JOB_WORDS]; i < loaded; i = i + 1) memory[i] = 0;
        loaded = job[JOB_WORDS];
      end
      if (job[JOB_PATCH] != 0) $readmemh("patch.hex", memory);
    end
  endtask

  // What a run does not write is not taken for its results: undefined, where a simulator has that.
  task poison;
    for (i = 0; i < poisoned; i = i + 1) buffer[i] = {DATA_BITS{1'bx}};
  endtask

  // A run that is reset writes its files anew.
  task open_files;
    marks = $fopen("marks.txt", "w");
  endtask

  task write_results;
    begin
      results = $fopen("results.txt", "w");
      for (i = 0; i < result_count; i = i + 1) begin
        for (lane = COLS - 1; lane >= 0; lane = lane - 1) begin
          place = 16 * (i * COLS + lane);
          $fwrite(results, "%h", buffer[place/DATA_BITS][place%DATA_BITS+:16]);
        end
        $fwrite(results, "\n");
      end
      $fclose(results);
      poisoned = (result_count * COLS * 16 + DATA_BITS - 1) / DATA_BITS;
    end
  endtask

  task write_report;
    begin
      report = $fopen("report.txt", "w");
      $fwrite(report, "%0d %0d %0d %0d %0d %0d\n", final_status, final_cycle, idle, mark_count, result_count, repeated);
      $fclose(report);
    end
  endtask

  // The writes before a run: their last one starts it.
  task set;
    input [11:0] address;
    input [31:0] value;
    begin
      set_address <= address;
      set_data <= value;
    end
  endtask

  task set_step;
    case (step)
      0: set(PROGRAM_LOW, 0);
      1: set(PROGRAM_HIGH, 0);
      2: set(PROGRAM_LENGTH, job[JOB_LENGTH]);
      3: set(RESULT_LOW, 0);
      4: set(RESULT_HIGH, BUFFER_HIGH);
      5: set(RESULT_LIMIT, BUFFER_LIMIT);
      6: set(INTERRUPT_ENABLE, 1);
      7: set(INTERRUPT_STATE, 1);
      default: set(CONTROL, 1);
    endcase
  endtask

  always @(posedge clk) begin
    rst <= 0;
    cycle <= cycle + 1;
    waited <= waited + 1;
    random <= random_2 ^ (random_2 << 5);
    if (set_addressed & set_address_ready) set_addressed <= 0;
    if (set_given & set_data_ready) set_given <= 0;
    if (get_valid & get_ready) get_valid <= 0;

    if (state == RUNNING & mark) begin
      $fwrite(marks, "%0d\n", cycle);
      mark_count <= mark_count + 1;
    end

    case (state)
      POWER_UP: begin
        rst <= 1;
        if (waited == POWER_UP_CYCLES) state <= WAITING;
      end
      WAITING:
      if (strobe != strobe_seen) begin
        strobe_seen <= strobe;
        read_job;
        repeated <= 0;
        step <= 0;
        state <= WRITING;
      end
      WRITING:
      // Both channels of the last write are taken in one cycle: the run begins two cycles later.
      if (set_addressed & step == 9) begin
        state <= STARTING;
      end else if (!rst & !set_addressed & !set_given & (set_done | step == 0)) begin
        set_step;
        set_addressed <= 1;
        set_given <= 1;
        step <= step + 1;
      end
      STARTING: begin
        cycle <= 0;
        random <= job[JOB_SEED];
        mark_count <= 0;
        result_count <= 0;
        ended <= 0;
        poison;
        open_files;
        state <= RUNNING;
      end
      RUNNING:
      if (irq) begin
        ended <= 1;
        waited <= 0;
        $fclose(marks);
        state <= ASKING;
      end else if (cycle == job[JOB_RESET] & job[JOB_RESET] != 0 & !repeated) begin
        rst <= 1;
        repeated <= 1;
        state <= RESETTING;
      end else if (cycle >= job[JOB_LIMIT]) begin
        final_status <= 0;
        final_cycle <= cycle;
        rst <= 1;
        waited <= 0;
        $fclose(marks);
        state <= ASKING;
      end
      RESETTING: begin
        $fclose(marks);
        step <= 0;
        state <= WRITING;
      end
      ASKING:
      if (!rst) begin
        get_address <= STATUS;
        get_valid <= 1;
        state <= DRAINING;
      end
      DRAINING: // until a run may begin
      if (got) begin
        if (ended) final_status <= get_data[7:4];
        idle <= get_data[0];
        get_valid <= 1;
        if (get_data[0] | waited >= DRAIN_CYCLES + job[JOB_LATENCY]) begin
          get_address <= RESULT_COUNT;
          state <= READING;
        end
      end
      READING:
      if (got & get_address == RESULT_COUNT) begin
        result_count <= get_data;
        get_address <= CYCLES_LOW;
        get_valid <= 1;
      end else if (got) begin
        if (ended) final_cycle <= get_data;
        state <= REPORTING;
      end
      REPORTING: begin
        write_results;
        write_report;
        rst <= !idle;
        waited <= 0;
        finished <= !finished;
        state <= WAITING;
      end
      default: state <= POWER_UP;
    endcase
  end

`ifdef __ICARUS__
  reg [8*1024-1:0] waves;
  initial
    if ($value$plusargs("waves=%s", waves)) begin
      $dumpfile(waves);
      $dumpvars(0, testbench);
    end
`endif
endmodule
