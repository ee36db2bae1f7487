// A stand-in for the accelerator with its exact ports: word 0 is {.., count[31:8], opcode[7:0]}. It fetches count + 1
// words with two bursts outstanding, then returns each payload word, its arrival cycle in the top lane, and ends.
// Opcodes: 1 echo, 2 crash the simulator, 3 hang, anything else BAD_INSTRUCTION. Marks: the first and the last result.

module nupes_accelerator (
    input clk,
    input rst,
    input start,
    input [31:0] length,
    output idle,
    output reg done,
    output reg [1:0] status,
    output mark,
    output request_valid,
    input request_ready,
    output [31:0] request_address,
    output [7:0] request_length,
    input response_valid,
    output response_ready,
    input [`PORT_BITS-1:0] response_data,
    output result_valid,
    input result_ready,
    output [16*`COLS-1:0] result_data
);
  localparam WATCHDOG = 1000;

  reg run, started;
  reg [31:0] cycle, asked, arrived, echoed, quiet, count;
  reg [1:0] outstanding;
  reg [7:0] opcode;
  reg [`PORT_BITS-1:0] words[0:65535];
  reg [15:0] stamps[0:65535];

  wire known = arrived != 0;
  wire more = run & (!known | (asked <= count & opcode == 1));
  wire all = known & opcode == 1 & arrived > count;
  wire accept = request_valid & request_ready;
  wire last = response_valid & (arrived[4:0] == 31);
  wire take = result_valid & result_ready;

  assign idle = !run & outstanding == 0;
  assign request_valid = more & outstanding != 2;
  assign request_address = asked;
  assign request_length = 32;
  assign response_ready = 1;
  assign result_valid = run & all & echoed < count;
  assign mark = take & (echoed == 0 | echoed == count - 1);
  // Wider than any port: the arrival cycle in the top lane, the word below it, cut to the lanes there are.
  wire [16*`COLS-1:0] word = words[echoed+1];
  assign result_data = {stamps[echoed+1], word[16*`COLS-17:0]};

  always @(posedge clk) begin
    done <= 0;
    cycle <= cycle + 1;
    quiet <= quiet + 1;
    outstanding <= outstanding + {1'b0, accept} - {1'b0, last};
    if (accept) asked <= asked + 32;
    if (accept | response_valid | take) quiet <= 0;
    if (response_valid) begin
      words[arrived[15:0]] <= response_data;
      stamps[arrived[15:0]] <= cycle[15:0];
      arrived <= arrived + 1;
      if (arrived == 0) begin
        opcode <= response_data[7:0];
        count <= {8'd0, response_data[31:8]};
      end
    end
    if (take) echoed <= echoed + 1;
    if (start & idle) begin
      run <= 1;
      status <= 0;
      cycle <= 1;
      asked <= 0;
      arrived <= 0;
      echoed <= 0;
      quiet <= 0;
    end
    if (run & known) begin
      if (opcode == 2) $fatal(1, "the stub crashes as it was told to");
      if (opcode == 0 | opcode > 3) begin
        run <= 0;
        done <= 1;
        status <= 2;
      end
    end
    if (run & all & echoed == count) begin
      run <= 0;
      done <= 1;
      status <= 1;
    end else if (run & quiet == WATCHDOG & !(known & opcode == 3)) begin
      run <= 0;
      done <= 1;
      status <= 3;
    end
    if (rst) begin
      run <= 0;
      outstanding <= 0;
      done <= 0;
      status <= 0;
    end
  end
endmodule
