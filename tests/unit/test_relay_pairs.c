// SPDX-License-Identifier: Apache-2.0
/* Pairs on each plane: bytes in order and once, half-close, reset, books. Every
 * test asserts from the counters that the plane it names moved the bytes. */
#include "relay_rig.h"

#include "relay/worker.h"

static unsigned planes; /* of the present group */

static void open_rig(struct rig *rig, int family)
{
	struct relay_settings settings = rig_settings(planes);

	rig_open_with(rig, &settings, family);
	if (planes & PLANE_MASK_SOCKMAP)
		rig_need_sockmap(rig);
}

static void assert_plane(const struct pair_report *report)
{
	enum plane wanted = planes & PLANE_MASK_SOCKMAP ? PLANE_SOCKMAP : planes & PLANE_MASK_SPLICE ? PLANE_SPLICE : PLANE_COPY;

	if (report->plane != wanted)
		fail_msg("plane %s: %s", plane_name(report->plane), report->plane_reason);
}

static void assert_happy(const struct pair_report *report)
{
	if (report->outcome != OUTCOME_HAPPY)
		fail_msg("%s: %s", outcome_word(report->outcome), report->detail);
	assert_plane(report);
}

static void exchange(int family, uint64_t size, unsigned write_most, unsigned read_most, unsigned pause_us, bool wait_open)
{
	struct rig rig;
	struct rig_ends ends;
	struct pair_report report;

	open_rig(&rig, family);
	rig_join(&rig, 0, &ends);
	if (wait_open)
		rig_wait_pair(&rig, ends.id, rig_is_open);
	struct rig_stream streams[2] = {
		{ .from = ends.client[0], .to = ends.client[1], .seed = 11, .size = size, .write_most = write_most,
		  .read_most = read_most, .read_pause_us = pause_us, .half_close = true },
		{ .from = ends.client[1], .to = ends.client[0], .seed = 22, .size = size, .write_most = write_most,
		  .read_most = read_most, .write_pause_us = pause_us, .half_close = true },
	};
	rig_run_streams(streams, 2);
	report = rig_wait_end(&rig, ends.id);
	assert_happy(&report);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(report.directions[i].bytes, size);
		assert_true(report.directions[i].packets > 0);
		if (wait_open && report.plane == PLANE_SOCKMAP)
			assert_true(report.directions[i].redirected_bytes > 0);
		close(ends.client[i]);
	}
	rig_close(&rig);
}

static void bytes_arrive_in_order_both_ways(void **state)
{
	(void)state;
	exchange(AF_INET, 30 << 20, 100000, 70000, 0, true);
}

static void small_writes_arrive(void **state)
{
	(void)state;
	exchange(AF_INET6, 1 << 20, 100, 3000, 500, true);
}

static void slow_readers_stop_the_sender(void **state)
{
	(void)state;
	exchange(AF_INET, 20 << 20, 200000, 20000, 3000, true);
}

static void bytes_sent_before_the_join_arrive(void **state)
{
	struct rig rig;
	struct rig_ends ends;
	struct pair_report report;
	uint64_t taken[2] = { 7, 0 };
	uint8_t sent[3000], token[7], got[3000];
	int fds[2];

	(void)state;
	open_rig(&rig, AF_INET);
	rig_fill(sent, sizeof sent, 5, 0);
	for (unsigned i = 0; i < 2; i++)
		rig_connect(&rig, &ends.client[i], &fds[i]);
	assert_true(rig_send_all(ends.client[0], sent, sizeof sent));
	shutdown(ends.client[0], SHUT_WR);
	assert_true(rig_receive_all(fds[0], token, sizeof token)); /* half of a packet */
	assert_int_equal(rig_join_sockets(&rig, 1, fds, taken, &ends.id), 0);
	assert_true(rig_receive_all(ends.client[1], got, sizeof sent - sizeof token));
	assert_memory_equal(got, sent + sizeof token, sizeof sent - sizeof token);
	assert_int_equal(recv(ends.client[1], got, 1, 0), 0);
	close(ends.client[1]);
	report = rig_wait_end(&rig, ends.id);
	assert_int_equal(report.outcome, OUTCOME_HAPPY);
	assert_int_equal(report.directions[0].bytes, sizeof sent - sizeof token);
	close(ends.client[0]);
	rig_close(&rig);
}

static void half_close_leaves_the_other_way_open(void **state)
{
	struct rig rig;
	struct rig_ends ends;
	struct pair_report report;
	char got[16];

	(void)state;
	open_rig(&rig, AF_INET);
	rig_join(&rig, 0, &ends);
	rig_wait_pair(&rig, ends.id, rig_is_open); /* the map refuses a socket whose peer has sent FIN */
	assert_true(rig_send_all(ends.client[0], "last", 4));
	shutdown(ends.client[0], SHUT_WR);
	assert_true(rig_receive_all(ends.client[1], got, 4));
	assert_int_equal(recv(ends.client[1], got, 1, 0), 0);
	for (unsigned i = 0; i < 100; i++) {
		assert_true(rig_send_all(ends.client[1], "answer", 6));
		assert_true(rig_receive_all(ends.client[0], got, 6));
		assert_memory_equal(got, "answer", 6);
	}
	close(ends.client[1]);
	assert_int_equal(recv(ends.client[0], got, 1, 0), 0);
	report = rig_wait_end(&rig, ends.id);
	assert_happy(&report);
	assert_int_equal(report.directions[1].bytes, 600);
	close(ends.client[0]);
	rig_close(&rig);
}

static bool has_ended_one_way(const struct pair_report *report)
{
	return report->directions[0].ended;
}

static void an_ended_direction_keeps_no_credit(void **state)
{
	struct rig rig;
	struct rig_ends ends;
	struct pair_report report;
	struct relay_totals totals;
	uint64_t first;
	char got;

	(void)state;
	open_rig(&rig, AF_INET);
	rig_join(&rig, 0, &ends);
	report = rig_wait_pair(&rig, ends.id, rig_is_open);
	first = report.directions[0].credit_bytes;
	for (unsigned round = 0; first && report.directions[0].credit_bytes == first && round < 10; round++) {
		struct rig_stream stream = { .from = ends.client[0], .to = ends.client[1], .seed = round,
					     .size = 20 << 20, .write_most = 200000, .read_most = 50000,
					     .read_pause_us = 1000 };

		rig_run_streams(&stream, 1);
		assert_int_equal(relay_find_pair(rig.relay, ends.id, &report), 0);
	}
	if (planes & PLANE_MASK_SOCKMAP)
		assert_true(report.directions[0].credit_bytes > first);
	shutdown(ends.client[0], SHUT_WR);
	assert_int_equal(recv(ends.client[1], &got, 1, 0), 0);
	report = rig_wait_pair(&rig, ends.id, has_ended_one_way);
	assert_int_equal(report.directions[0].credit_bytes, first);
	relay_totals(rig.relay, &totals);
	assert_int_equal(totals.credit_lent_bytes, 2 * first);
	close(ends.client[1]);
	report = rig_wait_end(&rig, ends.id);
	assert_happy(&report);
	relay_totals(rig.relay, &totals);
	assert_int_equal(totals.credit_lent_bytes, 0);
	assert_int_equal(totals.buffers_lent_bytes, 0);
	close(ends.client[0]);
	rig_close(&rig);
}

static void a_reset_resets_the_other_side(void **state)
{
	struct rig rig;
	struct rig_ends ends;
	struct pair_report report;
	struct linger at_once = { .l_onoff = 1 };
	char got[16];

	(void)state;
	open_rig(&rig, AF_INET);
	for (unsigned round = 0; round < 20; round++) {
		rig_join(&rig, round % 2, &ends);
		if (round % 4 == 3)
			rig_wait_pair(&rig, ends.id, rig_is_open);
		if (round % 4) {
			assert_true(rig_send_all(ends.client[0], "hello", 5));
			assert_true(rig_receive_all(ends.client[1], got, 5));
		}
		setsockopt(ends.client[0], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
		close(ends.client[0]);
		assert_int_equal(recv(ends.client[1], got, 1, 0), -1);
		assert_int_equal(errno, ECONNRESET);
		report = rig_wait_end(&rig, ends.id);
		assert_int_equal(report.outcome, OUTCOME_RESET_BY_PARTY);
		close(ends.client[1]);
	}
	rig_close(&rig);
}

static void many_short_streams_arrive_whole(void **state)
{
	struct rig rig;
	struct rig_ends ends;
	struct relay_totals totals;
	unsigned seed = 3;

	(void)state;
	open_rig(&rig, AF_INET);
	for (unsigned round = 0; round < 400; round++) {
		rig_join(&rig, round % 2, &ends);
		if (round % 2)
			rig_wait_pair(&rig, ends.id, rig_is_open);
		struct rig_stream stream = {
			.from = ends.client[0], .to = ends.client[1], .seed = round, .size = (uint64_t)rand_r(&seed) % 300000,
			.write_most = 60000, .read_most = 50000, .half_close = true,
		};
		rig_run_streams(&stream, 1);
		close(ends.client[1]);
		struct pair_report report = rig_wait_end(&rig, ends.id);
		if (report.outcome != OUTCOME_HAPPY)
			fail_msg("round %u: %s: %s", round, outcome_word(report.outcome), report.detail);
		assert_int_equal(report.directions[0].bytes, stream.size);
		close(ends.client[0]);
	}
	relay_totals(rig.relay, &totals);
	assert_int_equal(totals.pairs_live, 0);
	assert_int_equal(totals.books_wrong, 0);
	assert_int_equal(totals.credit_lent_bytes, 0);
	assert_int_equal(totals.ended[OUTCOME_HAPPY], 400);
	rig_close(&rig);
}

/* Sends for as long as the reader's side takes something; returns how much that was. */
static uint64_t send_until_stopped(int fd, uint64_t from)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLOUT };
	uint8_t bytes[8192];
	uint64_t sent = from;

	while (poll(&poll_fd, 1, 300) > 0) {
		rig_fill(bytes, sizeof bytes, 5, sent);
		ssize_t part = send(fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
		sent += part > 0 ? (uint64_t)part : 0;
	}
	return sent - from;
}

static void expect_bytes(int fd, uint64_t from, uint64_t size)
{
	uint8_t bytes[8192], wanted[8192];

	for (uint64_t got = 0; got < size;) {
		size_t part = size - got < sizeof bytes ? (size_t)(size - got) : sizeof bytes;

		assert_true(rig_receive_all(fd, bytes, part));
		rig_fill(wanted, part, 5, from + got);
		assert_memory_equal(bytes, wanted, part);
		got += part;
	}
}

static bool has_no_pipe(const struct pair_report *report)
{
	return strncmp(report->plane_reason, "no pipe", 7) == 0;
}

/* A stopped reader: what is under way stands in a pipe, or in a buffer of our own where none is left. */
static void without_a_pipe_bytes_are_copied_until_there_is_one(void **state)
{
	static const unsigned most[] = { 0, 1, 0, 1 };
	struct worker *worker;
	struct rig rig;
	struct rig_ends ends;
	uint64_t done = 0;

	(void)state;
	open_rig(&rig, AF_INET);
	worker = &rig.relay->workers[0];
	__atomic_store_n(&worker->pipes.most, 0, __ATOMIC_RELAXED);
	rig_join(&rig, 0, &ends);
	for (unsigned i = 0; i < 4; i++) {
		__atomic_store_n(&worker->pipes.most, most[i], __ATOMIC_RELAXED);
		uint64_t size = send_until_stopped(ends.client[0], done);

		assert_true(size > 0);
		struct pair_report report = rig_wait_pair(&rig, ends.id, has_no_pipe);
		assert_plane(&report);
		assert_int_equal(__atomic_load_n(&worker->pipes.used, __ATOMIC_RELAXED), most[i]);
		expect_bytes(ends.client[1], done, size);
		done += size;
	}
	shutdown(ends.client[0], SHUT_WR);
	shutdown(ends.client[1], SHUT_WR);
	struct pair_report report = rig_wait_end(&rig, ends.id);
	assert_happy(&report);
	assert_int_equal(report.directions[0].bytes, done);
	rig_close_ends(&ends);
	rig_close(&rig);
}

static int on_copy(void **state) { (void)state; planes = PLANE_MASK_COPY; return 0; }
static int on_splice(void **state) { (void)state; planes = PLANE_MASK_SPLICE; return 0; }
static int on_sockmap(void **state) { (void)state; planes = PLANE_MASK_ALL; return 0; }

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(half_close_leaves_the_other_way_open),
		cmocka_unit_test(bytes_sent_before_the_join_arrive),
		cmocka_unit_test(an_ended_direction_keeps_no_credit),
		cmocka_unit_test(a_reset_resets_the_other_side),
		cmocka_unit_test(many_short_streams_arrive_whole),
		cmocka_unit_test(bytes_arrive_in_order_both_ways),
		cmocka_unit_test(small_writes_arrive),
		cmocka_unit_test(slow_readers_stop_the_sender),
	};
	const struct CMUnitTest pipe_tests[] = {
		cmocka_unit_test(without_a_pipe_bytes_are_copied_until_there_is_one),
	};

	return cmocka_run_group_tests_name("copy", tests, on_copy, NULL) +
	       cmocka_run_group_tests_name("splice", tests, on_splice, NULL) +
	       cmocka_run_group_tests_name("pipes", pipe_tests, on_splice, NULL) +
	       cmocka_run_group_tests_name("sockmap", tests, on_sockmap, NULL);
}
