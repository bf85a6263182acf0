#include "fiber.h"
#include <stdlib.h>
#include <sys/mman.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// System V: keeps the registers that a callee has to keep, and the stack pointer.
extern "C" void ctn_sim_switch(void **from, void *to);
__asm__(R"(
	.text
	.globl ctn_sim_switch
	.type ctn_sim_switch, @function
ctn_sim_switch:
	pushq %rbp
	pushq %rbx
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, (%rdi)
	movq %rsi, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbx
	popq %rbp
	ret
	.size ctn_sim_switch, .-ctn_sim_switch
	.section .note.GNU-stack, "", @progbits
	.text
)");
#endif

namespace sim {

// Stacks end at different places of their pages, or the hot lines of all of them would share a few sets of the cache.
static constexpr size_t page = 4096, step = 5 * 64, colors = 51;
static constexpr size_t memory_bytes = page + fiber::stack_bytes + colors * step / page * page + page;
static __thread unsigned made;
static __thread fiber *previous, *running; // of this thread, at the latest switch

fiber::~fiber() {
	if (memory) munmap(memory, memory_bytes);
}

bool fiber::is_below(const void *p) const {
	return memory && (const char *)p >= memory && (const char *)p < memory + page;
}

char *fiber::top() const { return memory + memory_bytes - color * step; }

// The first thing a fiber does after a switch to it.
void fiber::arrived(void *fake_stack) {
#if defined(__SANITIZE_ADDRESS__)
	const void *bottom;
	size_t bytes;
	__sanitizer_finish_switch_fiber(fake_stack, &bottom, &bytes);
	if (!previous->memory) previous->bottom = bottom, previous->bytes = bytes; // a thread's own stack is known only now
#else
	(void)fake_stack;
#endif
}

void fiber::enter() {
	arrived(nullptr);
	running->first();
	abort();
}

void fiber::start(void (*f)()) {
	if (!memory) {
		void *p = mmap(nullptr, memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED || mprotect(p, page, PROT_NONE)) abort();
		memory = (char *)p;
		color = made++ % colors;
	}
	char *stack = memory + page;
	size_t usable = (size_t)(top() - stack);
#if defined(__SANITIZE_ADDRESS__)
	ASAN_UNPOISON_MEMORY_REGION(stack, usable); // frames that were left without a return
	bottom = stack, bytes = usable;
#endif
	first = f;
#if defined(__x86_64__)
	void **at = (void **)(stack + usable);
	*--at = nullptr; // enter's return address: aligns the stack as a call does
	*--at = (void *)enter;
	for (int i = 0; i < 6; i++) *--at = nullptr;
	sp = at;
#else
	getcontext(&context);
	context.uc_stack.ss_sp = stack;
	context.uc_stack.ss_size = usable;
	context.uc_link = nullptr;
	makecontext(&context, enter, 0);
#endif
}

void fiber::switch_to(fiber &to, bool dead) {
	previous = this, running = &to;
	void *fake = nullptr;
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_start_switch_fiber(dead ? nullptr : &fake, to.bottom, to.bytes);
#else
	(void)dead;
#endif
#if defined(__x86_64__)
	ctn_sim_switch(&sp, to.sp);
#else
	swapcontext(&context, &to.context);
#endif
	arrived(fake);
}

} // namespace sim
