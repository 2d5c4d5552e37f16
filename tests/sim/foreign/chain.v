// A control: every bit of a long shift register is an output, so that every upset shows.
module chain(input clk, input rst, input d, output reg [95:0] q);
  always @(posedge clk) if (rst) q <= 0; else q <= {q[94:0], d ^ q[95]};
endmodule
