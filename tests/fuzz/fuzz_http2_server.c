/* SPDX-License-Identifier: Apache-2.0 */
/* Any peer toward our server of HTTP/2: it ends, nothing is left, and what is handed on is clean. */
#include "http2_owner.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len >= 3)
		play(data, len, false);
	return 0;
}
