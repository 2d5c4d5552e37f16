// Faults in a bench's own simulation: bench.py puts this before the main loop of cocotb's Verilator
// program, which calls tercet_after_eval() after each evaluation.
//
// The wrapper counts the rising edges of the clock and samples the ports at each. When edge c has
// been evaluated, before any task of the bench wakes, cycle c starts: the program forks a child for
// each experiment whose first event is at c. The child changes its bits, evaluates again, and plays
// on with the bench; benches/record.py tells it when a test has failed or all have passed. All files
// are little endian; bench.py writes job, names and golden and reads trace and results.

#include "Vtop___024root.h"
#include "verilated_syms.h"

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <stdexcept>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace tercet {

enum Status : uint32_t { PASSED = 0, FAILED = 1, HANG = 2, NOT_LANDED = 3, LOST = 4 };
constexpr uint32_t NEVER = 0xffffffffu;
constexpr int TOO_LONG = 3, NO_VARIABLE = 4, NOT_GOLDEN = 5;  // exit statuses of the parent

struct Target { uint32_t variable, word, bit; };
struct Event { uint32_t target, mode, start, stop; };
struct Record { uint32_t experiment, status, flagged, edges, differs; };
struct Variable { uint8_t* data; uint32_t bytes, words; };

struct State {
    bool started = false, child = false, over = false;
    uint32_t last = 0, limit = 0, workers = 1, seconds = 0, next = 0, experiments = 0;
    uint32_t mine = 0, differs = NEVER;
    std::vector<uint32_t> first;
    std::vector<Event> events;
    std::vector<Target> targets;
    std::vector<Variable> variables;
    std::vector<uint8_t> golden;
    size_t row = 0;
    FILE* trace = nullptr;
    std::map<pid_t, uint32_t> children;
    Vtop* top = nullptr;
} state;

[[noreturn]] void stop(int status, const std::string& why) {
    std::fprintf(stderr, "tercet: %s\n", why.c_str());
    std::fflush(nullptr);
    _exit(status);
}

std::string folder(const char* name) {
    return std::string(std::getenv("TERCET_FOLDER")) + "/" + name;
}

template <class T> void read(FILE* file, std::vector<T>& values, size_t count) {
    values.resize(count);
    if (count && std::fread(values.data(), sizeof(T), count, file) != count)
        stop(1, "the job file is cut short");
}

const VerilatedScope* scope_of(const std::string& name) {
    return Verilated::threadContextp()->scopeFind(name.c_str());
}

// The variable of a path of instances and a name, separated by tabs. A name may be that of a word of
// an array, may lie in generate blocks, or be an escaped identifier.
Variable find(const std::string& path) {
    std::string name = path;
    std::replace(name.begin(), name.end(), '\t', '.');
    const size_t tab = path.rfind('\t'), dot = name.rfind('.');
    const VerilatedScope* scope = scope_of(name.substr(0, tab));
    VerilatedVar* variable = scope ? scope->varFind(("\\" + path.substr(tab + 1) + " ").c_str()) : nullptr;
    std::string leaf = name.substr(dot + 1);
    long word = -1;
    if (!variable) {
        scope = scope_of(name.substr(0, dot));
        variable = scope ? scope->varFind(leaf.c_str()) : nullptr;
    }
    if (scope && !variable && leaf.back() == ']') {
        const size_t bracket = leaf.rfind('[');
        word = std::atol(leaf.c_str() + bracket + 1);
        leaf.resize(bracket);
        variable = scope->varFind(leaf.c_str());
    }
    if (!variable || (word >= 0 && variable->udims() != 1)) stop(NO_VARIABLE, name);
    Variable found{static_cast<uint8_t*>(variable->datap()), uint32_t(variable->entSize()), 1};
    for (int i = 1; i <= variable->udims(); ++i) found.words *= uint32_t(variable->elements(i));
    if (word >= 0) {
        word -= variable->low(1);
        if (word < 0 || word >= long(found.words)) stop(NO_VARIABLE, name);
        found.data += size_t(word) * found.bytes;
        found.words = 1;
    }
    return found;
}

void load() {
    state.started = true;
    state.row = TERCET_STIMULUS_BYTES + TERCET_RESPONSE_BYTES;
    FILE* file = std::fopen(folder("job").c_str(), "rb");
    if (!file) stop(1, "no job file");
    std::vector<uint32_t> header;
    read(file, header, 6);
    state.limit = header[0], state.workers = header[1], state.seconds = header[2];
    state.experiments = header[3];
    read(file, state.first, state.experiments + 1);
    read(file, state.events, header[4]);
    read(file, state.targets, header[5]);
    std::fclose(file);
    file = std::fopen(folder("names").c_str(), "rb");
    char* line = nullptr;
    size_t size = 0;
    while (file && getline(&line, &size, file) > 0) {
        line[std::strcspn(line, "\n")] = 0;
        state.variables.push_back(find(line));
    }
    std::free(line);
    if (file) std::fclose(file);
    for (const Target& target : state.targets) {
        const Variable& v = state.variables.at(target.variable);
        if (target.word >= v.words || target.bit >= 8 * v.bytes) stop(1, "a bit that is not there");
    }
    if (!state.experiments) state.trace = std::fopen(folder("trace").c_str(), "wb");
    if (FILE* golden = std::fopen(folder("golden").c_str(), "rb")) {
        std::fseek(golden, 0, SEEK_END);
        const size_t length = size_t(std::ftell(golden));
        std::rewind(golden);
        read(golden, state.golden, length);
        std::fclose(golden);
    }
}

uint32_t flagged() { return TERCET_FLAGGED; }

void put(const Record& record) {
    FILE* file = std::fopen(folder("results").c_str(), "ab");
    if (!file || std::fwrite(&record, sizeof record, 1, file) != 1 || std::fclose(file))
        stop(1, "the results cannot be written");
}

[[noreturn]] void finish(uint32_t status) {
    put({state.mine, status, flagged(), state.last, state.differs});
    _exit(0);
}

void reap() {
    int status = 0;
    const pid_t pid = wait(&status);
    if (pid < 0) stop(1, "a child is lost");
    const auto found = state.children.find(pid);
    if (found == state.children.end()) return;
    const bool late = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
    if (late) put({found->second, HANG, 0, 0, NEVER});
    else if (!WIFEXITED(status) || WEXITSTATUS(status)) put({found->second, LOST, 0, 0, NEVER});
    state.children.erase(found);
}

// Strike all events of the child's experiment that begin or hold at the start of this cycle.
void strike(bool check) {
    std::vector<std::vector<uint8_t>> before;
    if (check)
        for (const Variable& v : state.variables)
            before.emplace_back(v.data, v.data + size_t(v.bytes) * v.words);
    for (uint32_t i = state.first[state.mine]; i < state.first[state.mine + 1]; ++i) {
        const Event& event = state.events[i];
        if (state.last < event.start || state.last >= event.stop) continue;
        const Target& target = state.targets[event.target];
        const Variable& variable = state.variables[target.variable];
        const size_t at = size_t(target.word) * variable.bytes + (target.bit >> 3);
        const uint8_t bit = uint8_t(1u << (target.bit & 7)), old = variable.data[at];
        const uint8_t value = event.mode == 0 ? old ^ bit : event.mode == 1 ? old & ~bit : old | bit;
        variable.data[at] = value;
        if (check) before[target.variable][at] = value;
    }
    state.top->eval_step();
    for (size_t i = 0; i < before.size(); ++i)
        if (std::memcmp(before[i].data(), state.variables[i].data, before[i].size()))
            finish(NOT_LANDED);
}

void begin_child(uint32_t experiment) {
    state.child = true;
    state.mine = experiment;
    state.children.clear();
    if (!std::freopen("/dev/null", "w", stdout) || !std::freopen("/dev/null", "w", stderr)) _exit(1);
    alarm(state.seconds);
    std::atexit([] { finish(FAILED); });
    strike(true);
}

// True in a child.
bool fork_all() {
    while (state.next < state.experiments &&
           state.events[state.first[state.next]].start == state.last) {
        if (state.children.size() >= state.workers) reap();
        std::fflush(nullptr);
        const uint32_t experiment = state.next++;
        const pid_t pid = fork();
        if (pid < 0) stop(1, "no process for an experiment");
        if (!pid) {
            begin_child(experiment);
            return true;
        }
        state.children[pid] = experiment;
    }
    if (state.experiments && state.next == state.experiments) {
        while (!state.children.empty()) reap();
        std::fflush(nullptr);
        _exit(0);
    }
    return false;
}

// Row `row` of the run: kept, or compared with the golden one.
void look(uint32_t row, const void* stimulus, const void* response) {
    if (state.trace) {
        std::fwrite(stimulus, 1, TERCET_STIMULUS_BYTES, state.trace);
        std::fwrite(response, 1, TERCET_RESPONSE_BYTES, state.trace);
        return;
    }
    const size_t at = size_t(row) * state.row;
    const bool there = at < state.golden.size();
    const bool same = there && !std::memcmp(response, &state.golden[at + TERCET_STIMULUS_BYTES],
                                            TERCET_RESPONSE_BYTES);
    if (state.child) {
        if (!same && state.differs == NEVER) state.differs = row;
    } else if (!same || std::memcmp(stimulus, &state.golden[at], TERCET_STIMULUS_BYTES)) {
        stop(NOT_GOLDEN, "the bench ran differently");
    }
}

void after_eval(Vtop* top) {
    if (!state.started) {
        state.top = top;
        load();
        if (fork_all()) return;
    }
    if (state.over || TERCET_EDGES == state.last) return;
    state.last = TERCET_EDGES;
    look(state.last - 1, &TERCET_STIMULUS, &TERCET_RESPONSE);
    if (state.last >= state.limit) {
        if (state.child) finish(HANG);
        stop(TOO_LONG, "too many cycles");
    }
    if (state.child) strike(false);
    else fork_all();
}

}  // namespace tercet

// Called by benches/record.py: a test has failed (1), or all have passed (0). The cycle in which
// the bench ends is the last row, as the ports are now; what the clock does later is no part of it.
extern "C" void tercet_end(int failed) {
    using tercet::state;
    if (!state.started) return;  // nothing has been evaluated
    if (!state.over && !failed) tercet::look(state.last, &TERCET_STIMULUS_NOW, &TERCET_RESPONSE_NOW);
    if (state.child) tercet::finish(failed ? tercet::FAILED : tercet::PASSED);
    if (!failed) state.over = true;
}
