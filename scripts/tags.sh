#!/bin/sh
# Prints the build tags of the optional libraries that this machine can compile and link against, separated by commas.
set -u
tags=''

have() { # source, libraries: does a program of them link?
	printf '%s\n' "$1" | "${CC:-gcc}" -x c - -o /dev/null $2 >/dev/null 2>&1
}

# Regions of JPEG files are decoded with two functions that only libjpeg-turbo (1.5 or newer) has.
if have '#include <stdio.h>
#include <jpeglib.h>
int main(void) { return jpeg_crop_scanline == 0 || jpeg_skip_scanlines == 0; }' -ljpeg; then
	tags=turbojpeg
fi
echo "$tags"
