// SPDX-License-Identifier: Apache-2.0
/* The relay around its pairs: limits, stopping, stalls, reports from other
 * threads, and the faults that only the test build of the kernel program has. */
#include "relay/faults.h"
#include "relay_rig.h"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <time.h>

static void open_rig(struct rig *rig, unsigned planes, uint64_t max_pairs, unsigned stall_ms, unsigned stop_ms)
{
	struct relay_settings settings = rig_settings(planes);

	settings.max_pairs = max_pairs;
	settings.stall_limit_ms = stall_ms;
	settings.stop_deadline_ms = stop_ms;
	rig_open_with(rig, &settings, AF_INET);
}

/* For tests of the sockmap plane; the faults stay for what is opened later. */
static void open_faulty(struct rig *rig, struct relay_faults faults, uint64_t max_pairs)
{
	relay_set_faults(&faults);
	open_rig(rig, PLANE_MASK_ALL, max_pairs, 0, 0);
	rig_need_sockmap(rig);
}

static void pairs_beyond_the_limit_are_reset(void **state)
{
	struct rig rig;
	struct rig_ends ends[3];
	struct relay_totals totals;
	int fds[2];

	(void)state;
	open_rig(&rig, PLANE_MASK_ALL, 2, 0, 0);
	for (unsigned i = 0; i < 2; i++)
		rig_join(&rig, i, &ends[i]);
	for (unsigned i = 0; i < 2; i++)
		rig_connect(&rig, &ends[2].client[i], &fds[i]);
	assert_int_equal(rig_join_sockets(&rig, 0, fds, NULL, &ends[2].id), -EMFILE);
	rig_expect_reset(ends[2].client[0]);
	rig_expect_reset(ends[2].client[1]);
	rig_close_ends(&ends[0]);
	assert_int_equal(rig_wait_end(&rig, ends[0].id).outcome, OUTCOME_HAPPY);
	relay_totals(rig.relay, &totals);
	assert_int_equal(totals.pairs_live, 1);
	rig_close_ends(&ends[2]);
	rig_join(&rig, 0, &ends[0]);
	rig_close_ends(&ends[0]);
	rig_close_ends(&ends[1]);
	rig_close(&rig);
}

static void *stop_relay(void *relay)
{
	relay_stop(relay);
	return NULL;
}

static void a_stop_waits_for_pairs_and_then_resets_them(void **state)
{
	struct rig rig;
	struct rig_ends happy, left;
	pthread_t thread;
	int fds[2];
	char got[8];

	(void)state;
	open_rig(&rig, PLANE_MASK_ALL, 16, 0, 300);
	rig_join(&rig, 0, &happy);
	rig_join(&rig, 1, &left);
	for (unsigned i = 0; i < 2; i++)
		rig_connect(&rig, &(int){ 0 }, &fds[i]);
	pthread_create(&thread, NULL, stop_relay, rig.relay);
	assert_true(rig_send_all(happy.client[0], "still", 5));
	assert_true(rig_receive_all(happy.client[1], got, 5));
	rig_close_ends(&happy);
	assert_int_equal(rig_wait_end(&rig, happy.id).outcome, OUTCOME_HAPPY);
	pthread_join(thread, NULL);
	assert_int_equal(rig_wait_end(&rig, left.id).outcome, OUTCOME_SHUTDOWN);
	rig_expect_reset(left.client[0]);
	rig_expect_reset(left.client[1]);
	rig_close_ends(&left);
	close(fds[0]);
	close(fds[1]);
	rig_close(&rig);
}

static void a_stalled_pair_ends_with_its_own_outcome(void **state)
{
	static const unsigned planes[] = { PLANE_MASK_COPY, PLANE_MASK_SPLICE, PLANE_MASK_ALL };

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct rig rig;
		struct rig_ends stalled, idle;
		char bytes[65536] = { 0 };
		struct pair_report report;

		open_rig(&rig, planes[i], 16, 400, 0);
		rig_join(&rig, 0, &stalled);
		rig_join(&rig, 0, &idle);
		while (send(stalled.client[0], bytes, sizeof bytes, MSG_DONTWAIT) > 0 || poll(NULL, 0, 20) ||
		       send(stalled.client[0], bytes, sizeof bytes, MSG_DONTWAIT) > 0)
			;
		report = rig_wait_end(&rig, stalled.id);
		assert_int_equal(report.outcome, OUTCOME_STALLED);
		rig_expect_reset(stalled.client[0]);
		/* Silence is no stall. */
		assert_int_equal(relay_find_pair(rig.relay, idle.id, &report), 0);
		rig_close_ends(&stalled);
		rig_close_ends(&idle);
		rig_close(&rig);
	}
}

static void drop_capabilities(void *context)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { { 0 } };

	(void)context;
	assert_int_equal(syscall(SYS_capset, &header, none), 0);
}

static void pairs_are_joined_without_capabilities(void **state)
{
	struct rig rig;
	struct rig_ends ends;
	struct relay_settings settings = rig_settings(PLANE_MASK_ALL);
	char got[8];

	(void)state;
	rig_thread_started = drop_capabilities;
	rig_open_with(&rig, &settings, AF_INET);
	rig_thread_started = NULL;
	rig_need_sockmap(&rig);
	rig_join(&rig, 0, &ends);
	rig_wait_pair(&rig, ends.id, rig_is_open);
	assert_true(rig_send_all(ends.client[0], "free", 4));
	assert_true(rig_receive_all(ends.client[1], got, 4));
	rig_close_ends(&ends);
	struct pair_report report = rig_wait_end(&rig, ends.id);
	assert_int_equal(report.outcome, OUTCOME_HAPPY);
	assert_int_equal(report.plane, PLANE_SOCKMAP);
	assert_int_equal(report.directions[0].redirected_bytes, 4);
	rig_close(&rig);
}

/* ---- reports ---- */

struct visit {
	unsigned count;
	uint64_t ids;
};

static void count_visit(const struct pair_report *report, void *context)
{
	struct visit *visit = context;

	assert_string_equal(report->parties[1].operator_name, "operator-1");
	assert_true(strncmp(report->parties[0].address, "127.0.0.1:", 10) == 0);
	visit->count++;
	visit->ids += report->id;
}

static void all_pairs_are_visited_once(void **state)
{
	struct rig rig;
	struct rig_ends ends[100];
	struct visit visit = { 0 };
	struct pair_report report;
	uint64_t ids = 0;

	(void)state;
	open_rig(&rig, PLANE_MASK_ALL, 128, 0, 0);
	for (unsigned i = 0; i < 100; i++) {
		rig_join(&rig, i % 2, &ends[i]);
		ids += ends[i].id;
	}
	relay_visit_pairs(rig.relay, count_visit, &visit);
	assert_int_equal(visit.count, 100);
	assert_int_equal(visit.ids, ids);
	assert_int_equal(relay_find_pair(rig.relay, 100000, &report), -ENOENT);
	relay_stop(rig.relay);
	assert_int_equal(relay_find_pair(rig.relay, ends[0].id, &report), -ENOENT);
	for (unsigned i = 0; i < 100; i++)
		rig_close_ends(&ends[i]);
	rig_close(&rig);
}

static _Atomic bool visiting;
static void *visit_all_the_time(void *context)
{
	struct rig *rig = context;

	while (visiting) {
		struct visit visit = { 0 };
		struct relay_totals totals;

		relay_visit_pairs(rig->relay, count_visit, &visit);
		relay_totals(rig->relay, &totals);
		poll(NULL, 0, 1);
	}
	return NULL;
}

static void reports_are_taken_while_bytes_move(void **state)
{
	struct rig rig;
	struct rig_ends ends[8];
	struct rig_stream streams[16];
	pthread_t thread;

	(void)state;
	open_rig(&rig, PLANE_MASK_ALL, 16, 60000, 0);
	visiting = true;
	for (unsigned i = 0; i < 8; i++)
		rig_join(&rig, i % 2, &ends[i]);
	pthread_create(&thread, NULL, visit_all_the_time, &rig);
	for (unsigned i = 0; i < 16; i++)
		streams[i] = (struct rig_stream){
			.from = ends[i / 2].client[i % 2], .to = ends[i / 2].client[!(i % 2)], .seed = i, .size = 1000000,
			.write_most = 30000, .read_most = 20000, .write_pause_us = 2000, .half_close = true,
		};
	rig_run_streams(streams, 16);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(rig_wait_end(&rig, ends[i].id).outcome, OUTCOME_HAPPY);
		rig_close_ends(&ends[i]);
	}
	visiting = false;
	pthread_join(thread, NULL);
	rig_close(&rig);
}

/* ---- faults ---- */

static void lost_announcements_are_found(void **state)
{
	struct rig rig;
	struct rig_ends ends;
	struct relay_totals totals;

	(void)state;
	open_faulty(&rig, (struct relay_faults){ .kernel = { .lose_record_every = 1 } }, 16);
	rig_join(&rig, 0, &ends);
	for (unsigned i = 0; i < 5; i++) {
		struct rig_stream stream = { .from = ends.client[0], .to = ends.client[1], .seed = i, .size = 5000000,
					     .write_most = 200000, .read_most = 100000 };

		rig_wait_pair(&rig, ends.id, rig_is_open);
		rig_run_streams(&stream, 1);
	}
	relay_totals(rig.relay, &totals);
	assert_true(totals.closings[CLOSING_CREDIT] + totals.closings[CLOSING_PILE] > 0);
	assert_true(totals.found_by_sweep > 0);
	rig_close_ends(&ends);
	assert_int_equal(rig_wait_end(&rig, ends.id).outcome, OUTCOME_HAPPY);
	rig_close(&rig);
}

static bool rests(const struct pair_report *report)
{
	return report->directions[0].rests && report->directions[1].rests;
}

/* Nobody polls a pair whose gates stay open. Its ends are passed on all the same. */
static void ends_of_resting_pairs_are_noticed(struct rig *rig)
{
	char bytes[100] = { 0 };
	struct linger at_once = { .l_onoff = 1 };

	for (unsigned i = 0; i < 6; i++) {
		struct rig_ends ends;

		rig_join(rig, i % 2, &ends);
		rig_wait_pair(rig, ends.id, rests);
		for (unsigned end = 0; end < 2; end++) {
			assert_true(rig_send_all(ends.client[end], bytes, sizeof bytes));
			assert_true(rig_receive_all(ends.client[!end], bytes, sizeof bytes));
		}
		if (i < 2) {
			setsockopt(ends.client[i], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
			close(ends.client[i]);
			rig_expect_reset(ends.client[!i]);
			close(ends.client[!i]);
			assert_int_equal(rig_wait_end(rig, ends.id).outcome, OUTCOME_RESET_BY_PARTY);
			continue;
		}
		/* The last byte right before FIN, and the other way afterwards. */
		assert_true(rig_send_all(ends.client[i % 2], bytes, sizeof bytes));
		shutdown(ends.client[i % 2], SHUT_WR);
		assert_true(rig_receive_all(ends.client[!(i % 2)], bytes, sizeof bytes));
		assert_int_equal(recv(ends.client[!(i % 2)], bytes, 1, 0), 0);
		assert_true(rig_send_all(ends.client[!(i % 2)], bytes, sizeof bytes));
		close(ends.client[!(i % 2)]);
		assert_true(rig_receive_all(ends.client[i % 2], bytes, sizeof bytes));
		assert_int_equal(recv(ends.client[i % 2], bytes, 1, 0), 0);
		close(ends.client[i % 2]);
		assert_int_equal(rig_wait_end(rig, ends.id).outcome, OUTCOME_HAPPY);
	}
}

static void ends_of_resting_pairs_are_announced(void **state)
{
	struct relay_totals totals;
	struct rig rig;

	(void)state;
	open_faulty(&rig, (struct relay_faults){ 0 }, 16);
	ends_of_resting_pairs_are_noticed(&rig);
	relay_totals(rig.relay, &totals);
	assert_in_range(totals.found_by_sweep, 0, 3); /* of twelve: it may come between record and handler */
	assert_int_equal(totals.books_wrong, 0);
	rig_close(&rig);
}

static void lost_ends_of_resting_pairs_are_found(void **state)
{
	struct relay_totals totals;
	struct rig rig;

	(void)state;
	open_faulty(&rig, (struct relay_faults){ .kernel = { .lose_record_every = 1 } }, 16);
	ends_of_resting_pairs_are_noticed(&rig);
	relay_totals(rig.relay, &totals);
	assert_true(totals.found_by_sweep >= 6);
	assert_int_equal(totals.books_wrong, 0);
	rig_close(&rig);
}

static void the_books_catch_a_lost_packet(void **state)
{
	struct rig rig;
	struct rig_ends ends;
	struct relay_totals totals;
	char bytes[100] = { 0 };

	(void)state;
	open_faulty(&rig, (struct relay_faults){ .kernel = { .lose_packet_every = 10 } }, 16);
	rig_join(&rig, 0, &ends);
	rig_wait_pair(&rig, ends.id, rig_is_open);
	for (unsigned i = 0; i < 15; i++) {
		assert_true(rig_send_all(ends.client[0], bytes, sizeof bytes));
		if (i < 9)
			assert_true(rig_receive_all(ends.client[1], bytes, sizeof bytes)); /* packets of their own */
	}
	shutdown(ends.client[0], SHUT_WR);
	assert_int_equal(rig_wait_end(&rig, ends.id).outcome, OUTCOME_BOOKS_WRONG);
	rig_expect_reset(ends.client[1]);
	relay_totals(rig.relay, &totals);
	assert_int_equal(totals.books_wrong, 1);
	rig_close_ends(&ends);
	rig_close(&rig);
}

static void late_records_harm_no_later_pair(void **state)
{
	struct rig rig;
	struct relay_totals totals;

	(void)state;
	open_faulty(&rig, (struct relay_faults){ .late_record_every = 1 }, 2);
	for (unsigned i = 0; i < 400; i++) {
		struct rig_ends ends;
		struct rig_stream stream;

		rig_join(&rig, i % 2, &ends);
		if (i % 4 == 0)
			rig_wait_pair(&rig, ends.id, rig_is_open);
		stream = (struct rig_stream){ .from = ends.client[0], .to = ends.client[1], .seed = i, .size = 400000,
					      .write_most = 200000, .read_most = 100000, .half_close = true };
		rig_run_streams(&stream, 1);
		close(ends.client[1]);
		assert_int_equal(rig_wait_end(&rig, ends.id).outcome, OUTCOME_HAPPY);
		close(ends.client[0]);
	}
	for (unsigned waited = 0; waited < RIG_DEADLINE_MS; waited++) {
		relay_totals(rig.relay, &totals);
		if (totals.late_records)
			break;
		poll(NULL, 0, 1);
	}
	assert_true(totals.late_records > 0);
	assert_int_equal(totals.books_wrong, 0);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pairs_beyond_the_limit_are_reset),
		cmocka_unit_test(a_stop_waits_for_pairs_and_then_resets_them),
		cmocka_unit_test(a_stalled_pair_ends_with_its_own_outcome),
		cmocka_unit_test(pairs_are_joined_without_capabilities),
		cmocka_unit_test(all_pairs_are_visited_once),
		cmocka_unit_test(reports_are_taken_while_bytes_move),
		cmocka_unit_test(lost_announcements_are_found),
		cmocka_unit_test(ends_of_resting_pairs_are_announced),
		cmocka_unit_test(lost_ends_of_resting_pairs_are_found),
		cmocka_unit_test(the_books_catch_a_lost_packet),
		cmocka_unit_test(late_records_harm_no_later_pair),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
