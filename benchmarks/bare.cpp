// The Verilated bench driven by nothing but this loop: no Python, no cocotb, no VPI.
//
// Like the resident simulation it takes jobs from files (sim/testbench.v), one for each line on
// standard input, and answers each with the seconds that it took.

#include <chrono>
#include <iostream>
#include <string>

#include "Vbare.h"
#include "Vbare___024root.h"
#include "verilated.h"

static void advance(VerilatedContext& context, Vbare& bench) {
    bench.eval();
    if (bench.eventsPending()) context.time(bench.nextTimeSlot());
}

int main(int argc, char** argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    Vbare bench{&context};
    for (int step = 0; step < 4; ++step) advance(context, bench);
    for (std::string line; std::getline(std::cin, line);) {
        const auto started = std::chrono::steady_clock::now();
        const auto before = bench.rootp->testbench__DOT__finished;
        bench.rootp->testbench__DOT__strobe ^= 1;
        while (bench.rootp->testbench__DOT__finished == before) advance(context, bench);
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - started;
        std::cout << taken.count() << std::endl;
    }
    return 0;
}
