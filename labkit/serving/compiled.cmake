# Read where llama.cpp is compiled (see the Makefile): its package switches this part on by force, but the lab loads only the library itself.
set(LLAMA_BUILD_COMMON OFF)
