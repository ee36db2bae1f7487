// The bench around one accelerator: clock, external memory, result capture, and jobs taken from files.
//
// One file for every configuration and for Verilator (--timing) and Icarus 11+: the sizes are parameters (-G, -P).
// Python is woken once per job: it writes the files below into the working directory, inverts `strobe` and waits until
// `finished` changes. No other signal is visible to it.
//
//   job.hex      read   the sixteen words JOB_* below
//   program.hex  read   if JOB_LOAD: the program image; memory above it is zero
//   patch.hex    read   if JOB_PATCH: words with their addresses, written over the image
//   marks.txt    written while the run lasts: one stamp per mark (decimal)
//   results.txt  written while the run lasts: one word per accepted result (hexadecimal, lane 0 in the low bits)
//   report.txt   written at its end: "status cycles idle marks results resets"
//
// Cycles count from 0 in the cycle of `start`. External memory: a burst accepted in cycle n delivers its first word in
// cycle max(n + latency, cycle after the previous burst's last word), then one word per cycle; a request is accepted
// whenever fewer than two bursts are outstanding (up to and including the cycle of a burst's last word). Stalls are drawn
// from one xorshift register that restarts with every run, so a seed gives the same stalls in every simulator.
//
// With SPILLS defined the accelerator stores words: each is in memory in the cycle after it is taken.

`timescale 1ns / 1ns

module testbench;
  parameter PORT_BITS = 64;
  parameter COLS = 16;
  parameter MEMORY_WORDS = 1048576;

  localparam JOB_LOAD = 0;           // 1: read program.hex
  localparam JOB_PATCH = 1;          // 1: read patch.hex
  localparam JOB_WORDS = 2;          // words of the program image
  localparam JOB_LATENCY = 3;        // cycles from a request to its first word, at least 1
  localparam JOB_SEED = 4;           // of the stalls, not 0
  localparam JOB_STALL_REQUEST = 5;  // probability of a stall of request_ready in 1/256
  localparam JOB_STALL_RESPONSE = 6; // the same for response_valid; 256: the memory never answers
  localparam JOB_STALL_RESULT = 7;   // the same for result_ready
  localparam JOB_RESET = 8;          // reset in this cycle of a first run, then run again; 0: never
  localparam JOB_LIMIT = 9;          // cycles after which a run that has not ended is reset and reported
  localparam JOB_STALL_SINCE = 10;   // the first cycle of a run that may stall

  localparam POWER_UP = 0, WAITING = 1, READY = 2, RUNNING = 3, RESETTING = 4, DRAINING = 5;
  localparam POWER_UP_CYCLES = 4;
  localparam DRAIN_CYCLES = 4096; // beyond latency; an accelerator that is not idle by then is reset and reported

  reg clk = 0;
  reg rst = 1;
  always #1 clk = ~clk;

  reg strobe /* verilator public_flat_rw */ = 0;
  reg finished /* verilator public_flat_rw */ = 0;

  reg [31:0] job[0:15];
  reg [PORT_BITS-1:0] memory[0:MEMORY_WORDS-1];

  // The accelerator.

  reg start = 0;
  wire idle, done, mark;
  wire [1:0] status;
  wire request_valid;
  reg request_ready = 0;
  wire [31:0] request_address;
  wire [7:0] request_length;
  reg response_valid = 0;
  wire response_ready;
  reg [PORT_BITS-1:0] response_data = 0;
  wire result_valid;
  reg result_ready = 0;
  wire [COLS*16-1:0] result_data;
`ifdef SPILLS
  wire store_valid;
  reg store_ready = 0;
  wire [31:0] store_address;
  wire [PORT_BITS-1:0] store_data;
`endif

  nupes_accelerator accelerator (
      .clk(clk),
      .rst(rst),
      .start(start),
      .length(job[JOB_WORDS]),
      .idle(idle),
      .done(done),
      .status(status),
      .mark(mark),
      .request_valid(request_valid),
      .request_ready(request_ready),
      .request_address(request_address),
      .request_length(request_length),
      .response_valid(response_valid),
      .response_ready(response_ready),
      .response_data(response_data),
`ifdef SPILLS
      .store_valid(store_valid),
      .store_ready(store_ready),
      .store_address(store_address),
      .store_data(store_data),
      .stored(1'b1),
`endif
      .result_valid(result_valid),
      .result_ready(result_ready),
      .result_data(result_data)
  );

  // Stalls: one draw per cycle of a run and port.

  reg [2:0] state = POWER_UP;
  reg [31:0] cycle = 0;
  reg [31:0] random = 1;
  wire [31:0] random_1 = random ^ (random << 13);
  wire [31:0] random_2 = random_1 ^ (random_1 >> 17);
  wire stalling = state == RUNNING & cycle >= job[JOB_STALL_SINCE];
  wire stall_request = stalling & ({24'd0, random[7:0]} < job[JOB_STALL_REQUEST]);
  wire stall_response = stalling & ({24'd0, random[15:8]} < job[JOB_STALL_RESPONSE]);
  wire stall_result = stalling & ({24'd0, random[23:16]} < job[JOB_STALL_RESULT]);

  // External memory. `head` is the burst being delivered, `next` the one behind it; due is a value of `now`.

  reg [31:0] now = 0;
  reg [1:0] outstanding = 0;
  reg [31:0] head_address, head_due, next_address, next_due;
  reg [7:0] head_left = 0, next_left = 0;
  reg last = 0; // the word at response_data is its burst's last

  always @(posedge clk) begin
    now <= now + 1;
    if (rst) begin
      outstanding = 0;
      head_left = 0;
      next_left = 0;
      last = 0;
      response_valid <= 0;
      request_ready <= 0;
    end else begin
      if (response_valid & response_ready & last) outstanding = outstanding - 1;
      if (request_valid & request_ready) begin
        outstanding = outstanding + 1;
        if (head_left == 0) begin
          head_address = request_address;
          head_left = request_length;
          head_due = now + job[JOB_LATENCY];
        end else begin
          next_address = request_address;
          next_left = request_length;
          next_due = now + job[JOB_LATENCY];
        end
      end
      if (!response_valid | response_ready) begin
        response_valid <= 0;
        if (head_left != 0 & $signed(now + 1 - head_due) >= 0 & !stall_response) begin
          response_valid <= 1;
          response_data <= head_address < MEMORY_WORDS ? memory[head_address] : {PORT_BITS{1'b0}};
          last = head_left == 1;
          head_address = head_address + 1;
          head_left = head_left - 1;
          if (last) begin
            head_address = next_address;
            head_left = next_left;
            head_due = next_due;
            next_left = 0;
          end
        end
      end
      request_ready <= outstanding < 2 & !stall_request;
    end
  end

`ifdef SPILLS
  // Stores stall with the results.
  always @(posedge clk) begin
    if (store_valid & store_ready & !rst & store_address < MEMORY_WORDS) memory[store_address] = store_data;
    store_ready <= !stall_result;
  end
`endif

  // Jobs, stamps and results.

  reg strobe_seen = 0;
  reg [31:0] waited = 0;
  reg [31:0] mark_count = 0;
  reg [31:0] result_count = 0;
  reg [31:0] loaded = 0; // words of the present image
  reg repeated = 0; // the reset of JOB_RESET has been made
  reg [1:0] final_status = 0;
  reg [31:0] final_cycle = 0;

  integer i, report, marks, results;

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

  // A run that is reset writes its files anew.
  task open_files;
    begin
      marks = $fopen("marks.txt", "w");
      results = $fopen("results.txt", "w");
    end
  endtask

  task close_files;
    begin
      $fclose(marks);
      $fclose(results);
    end
  endtask

  task write_report;
    begin
      report = $fopen("report.txt", "w");
      $fwrite(report, "%0d %0d %0d %0d %0d %0d\n", final_status, final_cycle, idle, mark_count, result_count, repeated);
      $fclose(report);
    end
  endtask

  always @(posedge clk) begin
    start <= 0;
    rst <= 0;
    cycle <= cycle + 1;
    waited <= waited + 1;
    random <= random_2 ^ (random_2 << 5);
    result_ready <= !stall_result;

    if (state == RUNNING | state == DRAINING) begin
      if (mark) begin
        $fwrite(marks, "%0d\n", cycle);
        mark_count <= mark_count + 1;
      end
      if (result_valid & result_ready) begin
        $fwrite(results, "%h\n", result_data);
        result_count <= result_count + 1;
      end
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
        state <= READY;
      end
      READY:
      if (idle & !rst) begin
        start <= 1;
        cycle <= 0;
        random <= job[JOB_SEED];
        mark_count <= 0;
        result_count <= 0;
        open_files;
        state <= RUNNING;
      end
      RUNNING:
      if (done) begin
        final_status <= status;
        final_cycle <= cycle;
        waited <= 0;
        state <= DRAINING;
      end else if (cycle == job[JOB_RESET] & job[JOB_RESET] != 0 & !repeated) begin
        rst <= 1;
        repeated <= 1;
        state <= RESETTING;
      end else if (cycle >= job[JOB_LIMIT]) begin
        final_status <= 0;
        final_cycle <= cycle;
        rst <= 1;
        waited <= 0;
        state <= DRAINING;
      end
      RESETTING: begin
        close_files;
        state <= READY;
      end
      DRAINING:
      if (!rst & (idle | waited >= DRAIN_CYCLES + job[JOB_LATENCY])) begin
        close_files;
        write_report;
        rst <= !idle;
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
