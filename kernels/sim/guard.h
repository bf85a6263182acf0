// Memory that shows what is written beside it.
#ifndef CTN_SIM_GUARD_H
#define CTN_SIM_GUARD_H
#include <stdlib.h>
#include <string.h>
#include <string>

namespace sim {

// Memory full of 0xFF (a NaN, or -1). Under AddressSanitizer it is of exactly the size asked for; otherwise a zone of
// known bytes lies on either side.
class guarded {
  public:
	explicit guarded(size_t n) : size(n) {
		void *p = nullptr;
		if (posix_memalign(&p, 256, zone + n + zone + (n + zone == 0))) p = nullptr;
		base = (unsigned char *)p;
		if (!base) return;
		memset(data(), 0xff, n);
		mend();
	}
	~guarded() { free(base); }
	guarded(const guarded &) = delete;
	guarded &operator=(const guarded &) = delete;

	bool ok() const { return base != nullptr; }
	unsigned char *data() const { return base + zone; }
	bool holds(const void *p, size_t n) const {
		const unsigned char *c = (const unsigned char *)p;
		return c >= data() && c + n <= data() + size;
	}

	// "4 bytes past the end of", or "" where the zones are whole.
	std::string damage() const {
		size_t before = count(base), past = count(data() + size);
		if (past) return std::to_string(past) + " bytes past the end of";
		if (before) return std::to_string(before) + " bytes before the start of";
		return "";
	}
	void mend() {
		memset(base, mark, zone);
		memset(data() + size, mark, zone);
	}

	const size_t size;

  private:
#if defined(__SANITIZE_ADDRESS__)
	static constexpr size_t zone = 0;
#else
	static constexpr size_t zone = 256;
#endif
	static constexpr unsigned char mark = 0xa5;

	static size_t count(const unsigned char *p) {
		size_t n = 0;
		for (size_t i = 0; i < zone; i++) n += p[i] != mark;
		return n;
	}

	unsigned char *base;
};

} // namespace sim

#endif
