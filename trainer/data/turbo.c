//go:build turbojpeg

// Regions of JPEG files through libjpeg-turbo: rows above the region are entropy-decoded only, columns beside it
// likewise, rows below it not at all.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <jpeglib.h>
#include <jerror.h>
#include "turbo.h"

// No sane encoder writes more scans, of a large image above all: a small file with very many would decode for hours.
enum { MAX_SCANS = 500 };
static const int64_t max_scanned_pixels = (int64_t)1 << 32;

struct ctn_jpeg {
	struct jpeg_decompress_struct info;
	struct jpeg_error_mgr errors;
	struct jpeg_progress_mgr progress;
	jmp_buf failed;
	char message[JMSG_LENGTH_MAX];
};

static void fail(j_common_ptr info) {
	ctn_jpeg *j = info->client_data;
	info->err->format_message(info, j->message);
	longjmp(j->failed, 1);
}

// Warnings that mean lost pixels are errors, as they are for Go's decoder; others (odd bytes between markers) are not.
static void warn(j_common_ptr info, int level) {
	int code = info->err->msg_code;
	if (level < 0 &&
	    (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE || code == JWRN_ARITH_BAD_CODE))
		fail(info);
}

static void count_scans(j_common_ptr info) {
	ctn_jpeg *j = info->client_data;
	int64_t pixels = (int64_t)j->info.image_width * j->info.image_height;
	if (j->info.input_scan_number > MAX_SCANS || j->info.input_scan_number * pixels > max_scanned_pixels) {
		snprintf(j->message, sizeof j->message, "%d scans of %u x %u pixels", j->info.input_scan_number,
		         j->info.image_width, j->info.image_height);
		longjmp(j->failed, 1);
	}
}

ctn_jpeg *ctn_jpeg_new(void) {
	ctn_jpeg *j = calloc(1, sizeof *j);
	if (!j) return NULL;
	j->info.err = jpeg_std_error(&j->errors);
	j->errors.error_exit = fail;
	j->errors.emit_message = warn;
	j->info.client_data = j;
	if (setjmp(j->failed)) {
		free(j);
		return NULL;
	}
	jpeg_create_decompress(&j->info);
	j->info.client_data = j;
	j->progress.progress_monitor = count_scans;
	j->info.progress = &j->progress;
	return j;
}

void ctn_jpeg_free(ctn_jpeg *j) {
	jpeg_destroy_decompress(&j->info);
	free(j);
}

const char *ctn_jpeg_message(const ctn_jpeg *j) { return j->message; }

// Ready for the next image, and no pointer to the caller's memory is kept.
static int done(ctn_jpeg *j, int result) {
	jpeg_abort_decompress(&j->info);
	if (j->info.src) j->info.src->next_input_byte = NULL, j->info.src->bytes_in_buffer = 0;
	return result;
}

static void header(ctn_jpeg *j, const uint8_t *data, size_t bytes) {
	jpeg_mem_src(&j->info, data, bytes);
	jpeg_read_header(&j->info, TRUE);
}

int ctn_jpeg_size(ctn_jpeg *j, const uint8_t *data, size_t bytes, int32_t *width, int32_t *height, int32_t *kept) {
	if (setjmp(j->failed)) return done(j, -1);
	header(j, data, bytes);
	*width = (int32_t)j->info.image_width, *height = (int32_t)j->info.image_height;
	*kept = jpeg_has_multiple_scans(&j->info) ? (int32_t)sizeof(JCOEF) * j->info.num_components : 0; // all coefficients
	return done(j, 0);
}

// CMYK to RGB in place, with the values inverted as Adobe's programs write them: a channel is its ink times the black.
static void cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, int64_t pixels) {
	for (int64_t i = 0; i < pixels; i++)
		for (int c = 0; c < 3; c++) rgb[3 * i + c] = (uint8_t)((cmyk[4 * i + c] * cmyk[4 * i + 3] + 127) / 255);
}

int ctn_jpeg_region(ctn_jpeg *j, const uint8_t *data, size_t bytes, int shrink, ctn_rect *r, uint8_t *out,
                    size_t room) {
	struct jpeg_decompress_struct *info = &j->info;
	if (setjmp(j->failed)) return done(j, -1);
	header(j, data, bytes);
	int cmyk = info->num_components == 4;
	info->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
	info->scale_num = 1, info->scale_denom = (unsigned)shrink;
	jpeg_start_decompress(info);
	JDIMENSION full = info->output_width;
	// Chroma is interpolated between neighbours: the outermost columns of a cropped row lack one, so one more is
	// decoded on each side.
	JDIMENSION begin = r->x > 0 ? (JDIMENSION)r->x - 1 : 0, end = (JDIMENSION)(r->x + r->width);
	if (end < full) end++;
	if (end > full || (JDIMENSION)(r->y + r->height) > info->output_height) {
		snprintf(j->message, sizeof j->message, "region ends at %u,%d of an image of %ux%u", end, r->y + r->height,
		         full, info->output_height);
		return done(j, -1);
	}
	JDIMENSION width = end - begin;
	if (width < full) jpeg_crop_scanline(info, &begin, &width);
	size_t stride = 3 * (size_t)width;
	// A CMYK row needs a third more than its RGB; the last one must fit as well.
	if (stride * (size_t)r->height + (cmyk ? width : 0) > room) {
		snprintf(j->message, sizeof j->message, "%u columns of %d rows do not fit", width, r->height);
		return done(j, -1);
	}
	if (r->y) jpeg_skip_scanlines(info, (JDIMENSION)r->y);
	for (int y = 0; y < r->height;) {
		JSAMPROW rows[4];
		int n = cmyk || r->height - y < 4 ? 1 : 4;
		for (int i = 0; i < n; i++) rows[i] = out + stride * (size_t)(y + i);
		n = (int)jpeg_read_scanlines(info, rows, (JDIMENSION)n);
		if (cmyk) cmyk_to_rgb(rows[0], rows[0], width);
		y += n;
	}
	r->x = (int32_t)begin, r->width = (int32_t)width;
	return done(j, 0);
}

#define CTN_TEXT(x) #x
#define CTN_TEXT_OF(x) CTN_TEXT(x)
const char *ctn_jpeg_version(void) { return CTN_TEXT_OF(LIBJPEG_TURBO_VERSION); }

struct encoding {
	struct jpeg_compress_struct info;
	struct jpeg_error_mgr errors;
	jmp_buf failed;
	char *message;
	unsigned char *out; // here and not on the stack: longjmp may not restore that
	unsigned long bytes;
};

static void fail_encoding(j_common_ptr info) {
	struct encoding *e = info->client_data;
	info->err->format_message(info, e->message);
	longjmp(e->failed, 1);
}

int ctn_jpeg_encode(const uint8_t *rgb, int32_t width, int32_t height, int quality, uint8_t **out, size_t *bytes,
                    char *message) {
	struct encoding *e = calloc(1, sizeof *e);
	if (!e) {
		snprintf(message, JMSG_LENGTH_MAX, "out of memory");
		return -1;
	}
	e->message = message;
	struct jpeg_compress_struct *info = &e->info;
	info->err = jpeg_std_error(&e->errors);
	e->errors.error_exit = fail_encoding;
	info->client_data = e;
	if (setjmp(e->failed)) {
		jpeg_destroy_compress(info);
		free(e->out);
		free(e);
		return -1;
	}
	jpeg_create_compress(info);
	info->client_data = e;
	jpeg_mem_dest(info, &e->out, &e->bytes);
	info->image_width = (JDIMENSION)width, info->image_height = (JDIMENSION)height;
	info->input_components = 3, info->in_color_space = JCS_RGB;
	jpeg_set_defaults(info);
	jpeg_set_quality(info, quality, TRUE);
	info->optimize_coding = TRUE; // a twentieth smaller, and as fast to decode
	jpeg_start_compress(info, TRUE);
	while (info->next_scanline < info->image_height) {
		JSAMPROW row = (JSAMPROW)(rgb + 3 * (size_t)width * info->next_scanline);
		jpeg_write_scanlines(info, &row, 1);
	}
	jpeg_finish_compress(info);
	jpeg_destroy_compress(info);
	*out = e->out, *bytes = e->bytes;
	free(e);
	return 0;
}
