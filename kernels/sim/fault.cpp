#include "block.h"
#if defined(__linux__) && defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#include <signal.h>
#include <ucontext.h>

namespace sim {

const bool can_catch_faults = true;
static struct sigaction before[NSIG]; // Go's handlers: faults outside kernels are theirs

static __thread int fault, code;
static __thread void *address;

// Runs on the failed thread's stack, from its top: its frames are not needed any more.
static void give_up() {
	if (current->running().is_below(address)) fail("a thread needs more than %zu bytes of stack", fiber::stack_bytes);
	if (fault == SIGFPE) fail("integer division by zero");
	if (code == SI_KERNEL) fail("a misaligned vector, or an address that cannot be one");
	fail("no memory at address 0x%zx", (size_t)address);
}

static void on_fault(int number, siginfo_t *info, void *context) {
	if (!current) {
		if (before[number].sa_flags & SA_SIGINFO) {
			before[number].sa_sigaction(number, info, context);
		} else {
			sigaction(number, &before[number], nullptr); // and the fault repeats
		}
		return;
	}
	fault = number, code = info->si_code, address = info->si_addr;
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
	registers[REG_RSP] = (greg_t)(current->running().top() - 8); // as after a call
	registers[REG_RIP] = (greg_t)give_up;
}

void catch_faults() {
	static std::once_flag once;
	std::call_once(once, [] {
		struct sigaction a = {};
		a.sa_sigaction = on_fault;
		a.sa_flags = SA_SIGINFO | SA_ONSTACK;
		for (int number : {SIGSEGV, SIGBUS, SIGFPE}) sigaction(number, &a, &before[number]);
	});
	// A stack of its own for the handler, which Go's threads have already.
	stack_t has;
	if (sigaltstack(nullptr, &has) || !(has.ss_flags & SS_DISABLE)) return;
	static thread_local std::vector<char> memory(64 << 10);
	stack_t own = {};
	own.ss_sp = memory.data(), own.ss_size = memory.size();
	sigaltstack(&own, nullptr);
}

} // namespace sim
#else
const bool sim::can_catch_faults = false;
void sim::catch_faults() {}
#endif
