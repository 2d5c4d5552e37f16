// A smoothing filter in SystemVerilog: an enumeration, a packed struct, lanes made by generate, a
// read-only memory of weights. The result is a sum; its lowest bits hardly matter.
package smooth_types;
  typedef enum logic [1:0] {WAIT, RUN, DONE} state_t;
  typedef struct packed {
    logic valid;
    logic [11:0] value;
  } sample_t;
endpackage

module tap (
  input logic clk, input logic step, input smooth_types::sample_t in,
  output smooth_types::sample_t out
);
  always_ff @(posedge clk) if (step) out <= in;
endmodule

module smooth (
  input logic clk, input logic rst, input logic push, input logic [11:0] x,
  output logic [19:0] y, output logic y_valid
);
  localparam int LANES = 4;
  smooth_types::state_t state;
  logic [LANES:0][12:0] chain;
  logic [3:0] weights [0:LANES-1];
  logic [2:0] filled;
  initial begin
    weights[0] = 1;
    weights[1] = 3;
    weights[2] = 3;
    weights[3] = 1;
  end

  assign chain[0] = {push, x};
  for (genvar k = 0; k < LANES; k++) begin : lanes
    tap stage (.clk(clk), .step(push), .in(chain[k]), .out(chain[k+1]));
  end

  logic [1:0] turn;
  logic [19:0] sum;
  wire [11:0] value = chain[turn + 1][11:0];
  always_ff @(posedge clk)
    if (rst) begin
      state <= smooth_types::WAIT;
      filled <= 0;
      turn <= 0;
      sum <= 0;
      y <= 0;
      y_valid <= 0;
    end else begin
      y_valid <= 0;
      unique case (state)
        smooth_types::WAIT: if (push) begin
          if (filled < LANES) filled <= filled + 1;
          if (filled >= LANES - 1) state <= smooth_types::RUN;
          turn <= 0;
          sum <= 0;
        end
        smooth_types::RUN: begin
          sum <= sum + weights[turn] * value;
          turn <= turn + 1;
          if (turn == 3) state <= smooth_types::DONE;
        end
        default: begin
          y <= sum;
          y_valid <= 1;
          state <= smooth_types::WAIT;
        end
      endcase
    end
endmodule
