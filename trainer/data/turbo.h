#include <stddef.h>
#include <stdint.h>

typedef struct ctn_jpeg ctn_jpeg;

// A decoder that is used again and again; NULL without memory.
ctn_jpeg *ctn_jpeg_new(void);
void ctn_jpeg_free(ctn_jpeg *j);
const char *ctn_jpeg_message(const ctn_jpeg *j); // why the latest call failed

// The size of the image in `data`, and how many bytes a pixel of all of it decoding keeps beside what it writes; -1 on
// failure.
int ctn_jpeg_size(ctn_jpeg *j, const uint8_t *data, size_t bytes, int32_t *width, int32_t *height, int32_t *kept);

// A rectangle of pixels. In: what is wanted of the image reduced by `shrink`. Out: what was written, which is wider
// where it must be.
typedef struct ctn_rect {
	int32_t x, y, width, height;
} ctn_rect;

// Decodes at least the rectangle to RGB, row after row, in at most `room` bytes; -1 on failure.
int ctn_jpeg_region(ctn_jpeg *j, const uint8_t *data, size_t bytes, int shrink, ctn_rect *r, uint8_t *out, size_t room);

// The version of the library that the program was built with.
const char *ctn_jpeg_version(void);

// Encodes RGB, row after row, as a baseline JPEG with halved chroma. *out is for free(); the failure's message goes to
// `message` (200 bytes).
int ctn_jpeg_encode(const uint8_t *rgb, int32_t width, int32_t height, int quality, uint8_t **out, size_t *bytes,
                    char *message);
