// Verilog of many habits, to find each of their bits: ranges that ascend or do not start at 0, blocking
// assignments, an array with a reset, arrays of two dimensions, 100-bit words, generate blocks,
// parameters, initial values, an escaped name, local variables.
module leaf #(parameter W = 8, parameter INIT = 3) (input clk, input arst, input [W-1:0] d, output [W-1:0] q);
  reg [W-1:0] r = INIT;
  always @(posedge clk or posedge arst) if (arst) r <= INIT; else r <= d + 1;
  assign q = r;
endmodule
module odd(input clk, input arst, input srst, input [7:0] d, input [2:0] a, output reg [0:7] up, output [15:8] hi,
  output signed [9:0] s, output [99:0] wide, output [7:0] m2, output [7:0] o3, output reg t = 1, output [5:0] esc, output [31:0] cnt, output [15:0] pk, output [3:0] tri_);
  reg [15:8] high; assign hi = high;
  always @(posedge clk) if (srst) begin up <= 8'h81; high <= 0; end else begin up <= d ^ up; high <= high + d[7:4]; end
  reg signed [9:0] acc; reg signed [4:0] tmp;
  always @(posedge clk) begin tmp = $signed(d[4:0]); if (srst) acc <= 0; else acc <= acc + tmp; end
  assign s = acc;
  reg [99:0] wm [4:11]; reg [99:0] wr;
  always @(posedge clk) begin wm[4 + a] <= {wr[91:0], d}; if (srst) wr <= 0; else wr <= wm[4 + (a ^ 3'd1)]; end
  assign wide = wr;
  reg [7:0] two [0:3][0:1];
  reg [7:0] two_r;
  integer i, j;
  always @(posedge clk) begin two[a[1:0]][a[2]] <= d; two_r <= two[a[2:1]][a[0]]; end
  assign m2 = two_r;
  reg [7:0] sml [0:3];
  always @(posedge clk or posedge arst) if (arst) for (i = 0; i < 4; i = i + 1) sml[i] <= i; else sml[a[1:0]] <= d;
  assign o3 = sml[a[2:1]];
  always @(posedge clk) t <= ~t ^ d[0];
  reg [5:0] \weird[name].x ;
  always @(posedge clk) \weird[name].x <= d[5:0] + \weird[name].x ;
  assign esc = \weird[name].x ;
  integer count; initial count = -5;
  always @(posedge clk) count <= count + 1;
  assign cnt = count;
  wire [7:0] l0, l1;
  genvar g;
  generate for (g = 0; g < 2; g = g + 1) begin : gen
    if (g == 0) begin : zero
      leaf #(8, 5) u (clk, arst, d, l0);
    end else begin : other
      leaf #(.W(8), .INIT(9)) u (.clk(clk), .arst(arst), .d(l0), .q(l1));
    end
  end endgenerate
  function [7:0] f(input [7:0] x); f = {x[3:0], x[7:4]} ^ 8'h5a; endfunction
  assign pk = {f(l0), l1};
  reg [3:0] nib;
  always @(posedge clk) begin : blk
    reg [3:0] local_;
    local_ = nib ^ d[3:0];
    nib <= local_ + 1;
  end
  assign tri_ = nib;
endmodule
