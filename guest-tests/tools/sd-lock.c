// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * sd-lock DEVICE RCA OPERATION [PASSWORD]: does LOCK_UNLOCK (CMD42, SD Physical Layer Specification 4.3.7), for which the
 * kernel has no code, through the block device's MMC_IOC_MULTI_CMD (include/uapi/linux/mmc/ioctl.h). RCA is what the card's
 * attribute of that name in sysfs has.
 *
 * Prints what the card says of itself afterwards: `status 0x00000900`, and the names of the bits that are about this.
 * Ends with 0 if the card answered, whatever it thinks of the password; with 1 if not, and says why; with 2 if it was
 * called wrongly.
 *
 * Without a C library, since the compiler that the lab fetches has none: system calls of x86-64.
 */

typedef unsigned int u32;
typedef unsigned long u64;

/* struct mmc_ioc_cmd */
struct command {
	int write_flag;
	int is_acmd;
	u32 opcode;
	u32 arg;
	u32 response[4];
	u32 flags;
	u32 blksz;
	u32 blocks;
	u32 postsleep_min_us;
	u32 postsleep_max_us;
	u32 data_timeout_ns;
	u32 cmd_timeout_ms;
	u32 pad;
	u64 data_ptr;
};

/* struct mmc_ioc_multi_cmd */
struct commands {
	u64 num_of_cmds;
	struct command cmds[3];
};

_Static_assert(sizeof(struct command) == 72, "the layout of struct mmc_ioc_cmd");

/* _IOWR(MMC_BLOCK_MAJOR, 1, struct mmc_ioc_multi_cmd) */
#define MMC_IOC_MULTI_CMD 0xc008b301UL
/* include/linux/mmc/core.h */
#define MMC_RSP_R1 (1 << 0 | 1 << 2 | 1 << 4)
#define MMC_CMD_AC (0 << 5)
#define MMC_CMD_ADTC (1 << 5)

#define SEND_STATUS 13
#define SET_BLOCKLEN 16
#define LOCK_UNLOCK 42

/* Bits of the card's status (4.10.1) */
#define CARD_IS_LOCKED (1U << 25)
#define LOCK_UNLOCK_FAILED (1U << 24)
#define ILLEGAL_COMMAND (1U << 22)
#define ERROR (1U << 19)
#define CURRENT_STATE(status) ((status) >> 9 & 15)
#define TRAN 4
#define READY_FOR_DATA (1U << 8)

/* CMD42's block (Table 4-5): a byte of these, the password's length, the password. */
static const struct operation {
	const char *name;
	unsigned char mode;
} operations[] = {
	{ "set", 1 << 0 },
	{ "set-and-lock", 1 << 0 | 1 << 2 },
	{ "clear", 1 << 1 },
	{ "lock", 1 << 2 },
	{ "unlock", 0 },
	{ "force-erase", 1 << 3 },
};
#define FORCE_ERASE (1 << 3)
/* The old password and the new one, of 16 bytes each. */
#define LONGEST 32
/* How often the status is asked for until the card has done it: an erase takes its time. */
#define PATIENCE 100000

static long system_call(long number, long first, long second, long third)
{
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(first), "S"(second), "d"(third)
			 : "rcx", "r11", "memory");
	return result;
}

#define sys_write(fd, text, length) system_call(1, fd, (long)(text), length)
#define sys_open(path, flags) system_call(2, (long)(path), flags, 0)
#define sys_ioctl(fd, request, argument) system_call(16, fd, request, (long)(argument))
#define O_RDWR 2

static long length_of(const char *text)
{
	long length = 0;

	while (text[length])
		length++;
	return length;
}

static void say(const char *text)
{
	sys_write(1, text, length_of(text));
}

static void say_hex(u32 number)
{
	char digits[] = "0x00000000";

	for (int at = 9; at > 1; at--, number >>= 4)
		digits[at] = "0123456789abcdef"[number & 15];
	say(digits);
}

static int same(const char *one, const char *other)
{
	while (*one && *one == *other)
		one++, other++;
	return *one == *other;
}

/* `0x0001`, as sysfs has it. */
static int read_hex(const char *text, u32 *number)
{
	*number = 0;
	if (text[0] != '0' || text[1] != 'x' || !text[2])
		return 0;
	for (text += 2; *text; text++) {
		u32 digit = *text >= 'a' ? (u32)*text - 'a' + 10 : (u32)*text - '0';

		if (digit > 15)
			return 0;
		*number = *number << 4 | digit;
	}
	return 1;
}

static struct command simple(u32 opcode, u32 arg)
{
	return (struct command){ .opcode = opcode, .arg = arg, .flags = MMC_RSP_R1 | MMC_CMD_AC };
}

static int failed(const char *what, long error)
{
	say(what);
	say(": error ");
	say_hex((u32)-error);
	say("\n");
	return 1;
}

static int run(long count, char **words)
{
	static unsigned char block[2 + LONGEST];
	static struct commands commands;
	const struct operation *operation = 0;
	u32 rca, size, status = 0, now = 0;
	long fd, length, error;

	for (u64 at = 0; count >= 4 && at < sizeof(operations) / sizeof(operations[0]); at++)
		if (same(words[3], operations[at].name))
			operation = &operations[at];
	if (!operation || !read_hex(words[2], &rca) || count != (operation->mode == FORCE_ERASE ? 4 : 5) ||
	    (length = count == 5 ? length_of(words[4]) : 0) > LONGEST) {
		say("usage: sd-lock DEVICE 0xRCA set|set-and-lock|clear|lock|unlock PASSWORD\n"
		    "       sd-lock DEVICE 0xRCA force-erase\n");
		return 2;
	}
	block[0] = operation->mode;
	block[1] = (unsigned char)length;
	for (long at = 0; at < length; at++)
		block[2 + at] = (unsigned char)words[4][at];
	/* To erase, the block is the first byte alone. */
	size = operation->mode == FORCE_ERASE ? 1 : 2 + (u32)length;

	fd = sys_open(words[1], O_RDWR);
	if (fd < 0)
		return failed(words[1], fd);
	commands.num_of_cmds = 2;
	commands.cmds[0] = simple(SET_BLOCKLEN, size);
	commands.cmds[1] = simple(LOCK_UNLOCK, 0);
	commands.cmds[1].flags = MMC_RSP_R1 | MMC_CMD_ADTC;
	commands.cmds[1].write_flag = 1;
	commands.cmds[1].blksz = size;
	commands.cmds[1].blocks = 1;
	commands.cmds[1].data_ptr = (u64)block;
	error = sys_ioctl(fd, MMC_IOC_MULTI_CMD, &commands);
	if (error)
		return failed("CMD42", error);
	/*
	 * An error bit is in the first status after it, and in no other. That is the kernel's, which asks until a write is
	 * over, and puts all that it was told into the response.
	 */
	status = commands.cmds[1].response[0] & (LOCK_UNLOCK_FAILED | ILLEGAL_COMMAND | ERROR);
	for (long tries = 0; tries < PATIENCE; tries++) {
		commands.num_of_cmds = 1;
		commands.cmds[0] = simple(SEND_STATUS, rca << 16);
		error = sys_ioctl(fd, MMC_IOC_MULTI_CMD, &commands);
		if (error)
			return failed("CMD13", error);
		now = commands.cmds[0].response[0];
		status |= now & (LOCK_UNLOCK_FAILED | ILLEGAL_COMMAND | ERROR);
		if (CURRENT_STATE(now) == TRAN && now & READY_FOR_DATA)
			break;
	}
	status |= now;
	/* As the kernel left it: cards of up to 2 GB read and write blocks of this length. */
	commands.cmds[0] = simple(SET_BLOCKLEN, 512);
	error = sys_ioctl(fd, MMC_IOC_MULTI_CMD, &commands);
	if (error)
		return failed("CMD16", error);
	say("status ");
	say_hex(status);
	say(status & CARD_IS_LOCKED ? " CARD_IS_LOCKED" : "");
	say(status & LOCK_UNLOCK_FAILED ? " LOCK_UNLOCK_FAILED" : "");
	say(status & ILLEGAL_COMMAND ? " ILLEGAL_COMMAND" : "");
	say(status & ERROR ? " ERROR" : "");
	say("\n");
	return 0;
}

/* The number of words and the words are where the stack begins. */
__asm__(".globl _start\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	mov %rsp, %rdi\n"
	"	and $-16, %rsp\n"
	"	call begin\n");

void begin(long *stack)
{
	system_call(231, run(stack[0], (char **)(stack + 1)), 0, 0);
	__builtin_unreachable();
}
