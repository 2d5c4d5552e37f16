// The environment of a design whose inputs are those of a recorded run, whatever it answers: an
// experiment ends in the first cycle in which an output is not as recorded. Further tables:
// TERCET_INPUTS(X) and TERCET_OUTPUTS(X) as X(variable, name), of the variable `model`.

class TraceEnvironment {
    struct Port { uint8_t* data; uint32_t bytes; const char* name; };

    Model& model;
    std::vector<Port> inputs, outputs;
    uint64_t cycles, settled, row_in = 0, row_out = 0;
    Bytes stimulus, response;  // [cycles][row]: the ports side by side

    const Port* differing(uint32_t t) const {
        const uint8_t* row = &response[t * row_out];
        for (const Port& port : outputs) {
            if (std::memcmp(port.data, row, port.bytes)) return &port;
            row += port.bytes;
        }
        return nullptr;
    }

public:
    uint32_t max_cycles;

    TraceEnvironment(Model& m, Reader& setup) : model(m), cycles(setup.number()), settled(setup.number()) {
#define X(variable, name) inputs.push_back({(uint8_t*)&variable, (uint32_t)sizeof(variable), name});
        TERCET_INPUTS(X)
#undef X
#define X(variable, name) outputs.push_back({(uint8_t*)&variable, (uint32_t)sizeof(variable), name});
        TERCET_OUTPUTS(X)
#undef X
        for (const Port& port : inputs) row_in += port.bytes;
        for (const Port& port : outputs) row_out += port.bytes;
        stimulus = setup.array<uint8_t>(cycles * row_in);
        response = setup.array<uint8_t>(cycles * row_out);
        max_cycles = uint32_t(cycles);
    }

    void reset(Memories&) {}

    void drive(uint32_t t) {
        const uint8_t* row = &stimulus[t * row_in];
        for (const Port& port : inputs) {
            copy_word(port.data, row, port.bytes);
            row += port.bytes;
        }
    }

    bool golden_over(uint32_t t) { return t >= cycles; }
    bool golden_cycle(uint32_t t) {
        if (t < settled) {
            uint8_t* row = &response[t * row_out];
            for (const Port& port : outputs) {
                std::memcpy(row, port.data, port.bytes);
                row += port.bytes;
            }
        } else if (const Port* port = differing(t))
            throw std::runtime_error("cycle " + std::to_string(t) + ": output " + port->name +
                                     " is not as recorded, without a fault");
        return false;
    }
    void golden_end(uint32_t) {}
    void write_golden(Writer&) {}

    void begin_job(uint64_t) {}
    void start(uint32_t, uint32_t, uint32_t) {}
    bool observe(uint32_t t) { return differing(t) != nullptr; }
    bool same(uint32_t) const { return true; }
    uint32_t late() const { return NEVER; }
    uint32_t end_when_late(uint32_t t) const { return t; }
    uint32_t watch_end() const { return uint32_t(cycles); }
    End verdict(uint32_t t) const { return t >= cycles ? BOUND : GOLDEN; }
    void jump(uint32_t) {}
    void finish(End) {}
    void write(Writer&) {}
};

int main(int argc, char** argv) { return serve<TraceEnvironment>(argc, argv); }
