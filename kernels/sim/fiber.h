// Fibers: stacks to switch between on one thread of the host.
#ifndef CTN_SIM_FIBER_H
#define CTN_SIM_FIBER_H
#include <stddef.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace sim {

class fiber {
  public:
	static constexpr size_t stack_bytes = 64 << 10;

	fiber() = default; // of the thread that runs now, once it switches away
	~fiber();
	fiber(const fiber &) = delete;
	fiber &operator=(const fiber &) = delete;

	// The next switch to it calls f, which must not return. Whatever ran on its stack before is forgotten.
	void start(void (*f)());
	// Goes on with another fiber until some fiber switches back. dead: nobody will.
	void switch_to(fiber &to, bool dead = false);
	// Whether an address is just below the stack, where nothing may be touched.
	bool is_below(const void *p) const;
	// The stack's upper end, on 16 bytes.
	char *top() const;

  private:
	char *memory = nullptr; // of the stack, and a page below
	unsigned color = 0;
	void (*first)() = nullptr;
#if defined(__x86_64__)
	void *sp = nullptr;
#else
	ucontext_t context;
#endif
#if defined(__SANITIZE_ADDRESS__)
	const void *bottom = nullptr; // of the stack, as AddressSanitizer is told
	size_t bytes = 0;
#endif
	static void enter();
	static void arrived(void *fake_stack);
};

} // namespace sim

#endif
