// A store with byte enables and a parity bit a byte, and a mixer that reads it: reset is
// asynchronous, both sides may stall, `err` reports a byte whose parity is wrong.
module store(
  input clk, input rst_n,
  input in_valid, output in_ready, input [31:0] in_data, input [3:0] in_be,
  output out_valid, input out_ready, output reg [79:0] out_data, output reg err
);
  localparam IDLE = 2'd0, LOAD = 2'd1, MIX = 2'd2, SEND = 2'd3;
  reg [35:0] mem [0:7];
  reg [3:0] wp, rp;
  reg [1:0] state, step;
  reg [35:0] word;
  integer i;
  initial for (i = 0; i < 8; i = i + 1) mem[i] = 0;

  wire [3:0] fill = wp - rp;
  assign in_ready = fill < 8;
  assign out_valid = state == SEND;

  always @(posedge clk) if (in_valid && in_ready) begin
    if (in_be[0]) begin mem[wp[2:0]][7:0] <= in_data[7:0]; mem[wp[2:0]][32] <= ^in_data[7:0]; end
    if (in_be[1]) begin mem[wp[2:0]][15:8] <= in_data[15:8]; mem[wp[2:0]][33] <= ^in_data[15:8]; end
    if (in_be[2]) begin mem[wp[2:0]][23:16] <= in_data[23:16]; mem[wp[2:0]][34] <= ^in_data[23:16]; end
    if (in_be[3]) begin mem[wp[2:0]][31:24] <= in_data[31:24]; mem[wp[2:0]][35] <= ^in_data[31:24]; end
  end

  wire bad = (^word[7:0] ^ word[32]) | (^word[15:8] ^ word[33])
           | (^word[23:16] ^ word[34]) | (^word[31:24] ^ word[35]);

  always @(posedge clk or negedge rst_n)
    if (!rst_n) begin
      wp <= 0; rp <= 0; state <= IDLE; step <= 0; out_data <= 80'h1234_5678_9abc_def0_1357; err <= 0;
    end else begin
      if (in_valid && in_ready) wp <= wp + 1;
      case (state)
        IDLE: if (fill != 0) state <= LOAD;
        LOAD: begin rp <= rp + 1; step <= 0; state <= MIX; end
        MIX: begin
          if (step == 0 && bad) err <= 1;
          out_data <= {out_data[72:0], out_data[79:73]} ^ {48'd0, word[31:0]};
          step <= step + 1;
          if (step == 2) state <= SEND;
        end
        SEND: if (out_ready) state <= IDLE;
      endcase
    end

  always @(posedge clk) if (state == LOAD) word <= mem[rp[2:0]];
endmodule
