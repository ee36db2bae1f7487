// The main loop of a Verilated simulation without waveforms: cocotb's, but asleep while a job runs.
//
// cocotb's own loop (share/lib/verilator/verilator.cpp) asks the VPI for callbacks eight times in
// every edge of the clock, a sixth of a run. Between two jobs Python waits for one signal only,
// `finished` of testbench.v: until it changes nobody can be called, and the model runs alone.

#include <algorithm>
#include <memory>

#include "Vtop.h"
#include "Vtop___024root.h"
#include "verilated.h"
#include "verilated_vpi.h"

extern "C" void vlog_startup_routines_bootstrap(void);

// Time slots in which the VPI is served after Python has been called: all that it has written by
// then has taken effect.
static constexpr int AWAKE = 16;

static constexpr vluint64_t NEVER = ~vluint64_t{0};

static void settle() {
    while (VerilatedVpi::callValueCbs()) {
    }
}

// Evaluate one time slot and let everybody react who waits for something in it.
static void serve(Vtop& top) {
    do {
        do {
            top.eval_step();
            VerilatedVpi::clearEvalNeeded();
            VerilatedVpi::doInertialPuts();
            settle();
        } while (VerilatedVpi::evalNeeded());
        VerilatedVpi::callCbs(cbReadWriteSynch);
        VerilatedVpi::doInertialPuts();
        settle();
    } while (VerilatedVpi::evalNeeded());
    top.eval_end_step();
    VerilatedVpi::callCbs(cbReadOnlySynch);
}

int main(int argc, char** argv) {
    VerilatedContext& context = *Verilated::threadContextp();
    context.commandArgs(argc, argv);
    const auto top = std::make_unique<Vtop>("");
    const auto& finished = top->rootp->testbench__DOT__finished;
    auto seen = finished;
    Verilated::fatalOnVpiError(false);
    vlog_startup_routines_bootstrap();
    Verilated::addExitCb([](void*) { VerilatedVpi::callCbs(cbEndOfSimulation); }, nullptr);
    VerilatedVpi::callCbs(cbStartOfSimulation);
    settle();
    for (int awake = AWAKE; !context.gotFinish();) {
        if (awake == 0) {
            top->eval();
            if (finished == seen) {
                context.time(top->nextTimeSlot());
                continue;
            }
        }
        serve(*top);
        const vluint64_t deadline = VerilatedVpi::cbNextDeadline();
        const vluint64_t event = top->eventsPending() ? top->nextTimeSlot() : NEVER;
        if (std::min(deadline, event) == NEVER) break;
        context.time(std::min(deadline, event));
        VerilatedVpi::callCbs(cbNextSimTime);
        settle();
        VerilatedVpi::callTimedCbs();
        settle();
        awake = deadline != NEVER || finished != seen ? AWAKE : awake - 1;
        seen = finished;
    }
    top->final();
    VerilatedVpi::callCbs(cbEndOfSimulation);
    return context.errorCount() > 0;
}
