/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest.h: the program that speaks for the pods in the virtual machine: one static binary, so that an initramfs needs
 * nothing else for it. Each command lives in the file of its name; all of them are called with argv[0] = the command
 * and return an exit code. Whatever cannot go on ends the process by die().
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int greet(int argc, char **argv);   /* greet NAME PORT...: says "NAME PORT" to whoever connects, and closes */
int ask(int argc, char **argv);	    /* ask ADDRESS PORT COUNT: who greets, as which peer; or the error; a line each */
int traffic(int argc, char **argv); /* traffic serve PORT | traffic run ADDRESS PORT: checked bytes, both ways */
int races(int argc, char **argv);   /* races serve PORT | races run ADDRESS PORT RATE SECONDS PROCESSES */
int inspect(int argc, char **argv); /* inspect programs | count MAP: what the kernel holds */

/* One line on stderr, with the error of errno unless it is 0; exit code 1. */
void die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* A decimal number from `least` to `most`, or die(). */
unsigned long number(const char *text, unsigned long least, unsigned long most);

uint64_t now_ns(void); /* CLOCK_MONOTONIC */

/* ------------------------------------------------------------------ sock.c */

int sock_listen(unsigned port);				 /* non-blocking, both families, or die() */
int sock_accept(int listener);				 /* non-blocking; -1: nobody there */
bool sock_wait(int fd, short events, unsigned timeout_ms); /* false: the time is up */
int sock_error(int fd);					 /* SO_ERROR as -errno, 0 */

/* Connects `fd`, or a new socket if it is -1, without waiting. The fd; or -errno, and then it is closed. */
int sock_connect(const char *address, unsigned port, int fd);

/* ------------------------------------------------------------------ pattern.c
 *
 * The bytes of a stream: each is known from its position and the seed of the stream, so that a byte that is lost,
 * doubled, moved or another connection's shows at the place where it happened.
 */

void pattern_fill(uint64_t seed, uint64_t position, void *to, size_t size);

/* -1: all as they must be; else the offset of the first wrong one. */
ptrdiff_t pattern_check(uint64_t seed, uint64_t position, const void *data, size_t size);

uint32_t random_below(uint32_t bound); /* of this process; random_seed() first */
void random_seed(uint64_t seed);

#endif
