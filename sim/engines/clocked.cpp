// Runs frames through a Verilated design as fast as its streams allow: no stalls, no idle cycles.
//
// Usage: model IN OUT FRAMES PATIENCE. IN holds the input words of all frames (I_BYTES a beat, least
// significant byte first), OUT receives the output words. The defines I_BEATS, I_BYTES, O_BEATS and
// O_BYTES come from sim/clocked.py. Exit status 3 and one line on stderr: a claim of the stream
// failed (no beat for PATIENCE cycles, a wrong first or last marker, err raised).

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

namespace {

constexpr int kResetCycles = 3;

using Bytes = std::vector<unsigned char>;

// Every Verilator type of a port is little-endian memory, wide ones included.
template <class Port>
void put(Port& port, const unsigned char* bytes, size_t count) {
    static_assert(sizeof(Port) >= I_BYTES, "the input port is too narrow");
    std::memset(static_cast<void*>(&port), 0, sizeof port);
    std::memcpy(static_cast<void*>(&port), bytes, count);
}

template <class Port>
void append(Bytes& out, const Port& port) {
    static_assert(sizeof(Port) >= O_BYTES, "the output port is too narrow");
    const auto* bytes = reinterpret_cast<const unsigned char*>(&port);
    out.insert(out.end(), bytes, bytes + O_BYTES);
}

Bytes load(const char* path, size_t size) {
    Bytes data(size);
    std::FILE* file = std::fopen(path, "rb");
    if (!file || std::fread(data.data(), 1, size, file) != size) std::exit(4);
    std::fclose(file);
    return data;
}

void save(const char* path, const Bytes& data) {
    std::FILE* file = std::fopen(path, "wb");
    if (!file || std::fwrite(data.data(), 1, data.size(), file) != data.size()) std::exit(4);
    if (std::fclose(file)) std::exit(4);
}

[[noreturn]] void fail(unsigned long long beat, const char* what) {
    std::fprintf(stderr, "output frame %llu, beat %llu: %s\n", beat / O_BEATS, beat % O_BEATS, what);
    std::exit(3);
}

class Bench {
  public:
    Bench() {
        context_.randReset(2);
        context_.randSeed(1);
        top_ = std::make_unique<Vtop>(&context_);
        top_->rst = 1;
        for (int cycle = 0; cycle < kResetCycles; ++cycle) {
            settle();
            rise();
        }
        top_->rst = 0;
    }

    Bytes run(const Bytes& in, unsigned long long frames, unsigned long long patience) {
        const unsigned long long sent_end = frames * I_BEATS, got_end = frames * O_BEATS;
        unsigned long long sent = 0, got = 0, quiet = 0;
        Bytes out;
        out.reserve(got_end * O_BYTES);
        top_->o_ready = 1;
        offer(in, sent, sent_end);
        while (got < got_end) {
            settle();
            const bool taken = top_->i_valid && top_->i_ready;
            quiet = taken || top_->o_valid ? 0 : quiet + 1;
            if (quiet > patience) fail(got, "did not come");
            if (top_->o_valid) check(got++, out);
            rise();
            if (taken) offer(in, ++sent, sent_end);
        }
        return out;
    }

  private:
    void offer(const Bytes& in, unsigned long long beat, unsigned long long end) {
        top_->i_valid = beat < end;
        if (beat >= end) return;
        put(top_->i_data, &in[beat * I_BYTES], I_BYTES);
        top_->i_first = beat % I_BEATS == 0;
        top_->i_last = beat % I_BEATS == I_BEATS - 1;
    }

    void check(unsigned long long beat, Bytes& out) {
        if (top_->o_err) fail(beat, "err is raised");
        if (top_->o_first != (beat % O_BEATS == 0)) fail(beat, "first is wrong");
        if (top_->o_last != (beat % O_BEATS == O_BEATS - 1)) fail(beat, "last is wrong");
        append(out, top_->o_data);
    }

    void settle() {
        top_->clk = 0;
        top_->eval();
    }

    void rise() {
        top_->clk = 1;
        top_->eval();
        context_.timeInc(1);
    }

    VerilatedContext context_;
    std::unique_ptr<Vtop> top_;
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 5) return 2;
    const unsigned long long frames = std::strtoull(argv[3], nullptr, 10);
    const Bytes in = load(argv[1], frames * I_BEATS * I_BYTES);
    save(argv[2], Bench().run(in, frames, std::strtoull(argv[4], nullptr, 10)));
    return 0;
}
