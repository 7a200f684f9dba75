// SPDX-License-Identifier: Apache-2.0
/* Clocks and RFC 3339 instants. Parsing and writing are pure functions.
 *
 * The calendar is the proleptic Gregorian one, years 0000 to 9999, without
 * leap seconds, as in the programs that wrote the records: a text that they
 * refuse (":60", day 31 of April) is refused here too. */
#include "base/instant.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#define SECONDS_PER_DAY 86400
#define ZERO_TIME_SECONDS (-62135596800LL) /* 0001-01-01T00:00:00Z */

uint64_t clock_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t clock_now_ms(void)
{
	return clock_now_ns() / 1000000;
}

struct instant instant_now(void)
{
	struct instant result = { 0 };
	struct timespec now;
	struct tm local;

	clock_gettime(CLOCK_REALTIME, &now);
	result.seconds = now.tv_sec;
	result.nanoseconds = (int32_t)now.tv_nsec;
	if (localtime_r(&now.tv_sec, &local))
		result.offset_minutes = (int32_t)(local.tm_gmtoff / 60);
	return result;
}

/* Days since 1970-01-01. Years are counted from March, so that the leap day is
 * the last day of a year. */
static int64_t days_from_date(int64_t year, int64_t month, int64_t day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t year_of_era = y - era * 400;
	int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

	return era * 146097 + day_of_era - 719468;
}

static void date_from_days(int64_t days, int64_t *year, int64_t *month, int64_t *day)
{
	int64_t z = days + 719468;
	int64_t era = (z >= 0 ? z : z - 146096) / 146097;
	int64_t day_of_era = z - era * 146097;
	int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t shifted = (5 * day_of_year + 2) / 153;

	*day = day_of_year - (153 * shifted + 2) / 5 + 1;
	*month = shifted < 10 ? shifted + 3 : shifted - 9;
	*year = year_of_era + era * 400 + (*month <= 2);
}

static int days_in_month(int year, int month)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	int leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return days[month - 1] + (month == 2 && leap);
}

/* Reads `digits` decimal digits at *text; -1 if there are fewer. */
static int read_number(const char **text, const char *end, int digits)
{
	int value = 0;

	for (int i = 0; i < digits; i++) {
		if (*text == end || **text < '0' || **text > '9')
			return -1;
		value = value * 10 + (*(*text)++ - '0');
	}
	return value;
}

static bool skip(const char **text, const char *end, char expected)
{
	if (*text == end || **text != expected)
		return false;
	(*text)++;
	return true;
}

/* "Z" or "+hh:mm", up to the very end. */
static int read_zone(const char *text, const char *end, int32_t *offset_minutes)
{
	int sign, hours, minutes;

	*offset_minutes = 0;
	if (skip(&text, end, 'Z'))
		return text == end ? 0 : -EINVAL;
	if (skip(&text, end, '+'))
		sign = 1;
	else if (skip(&text, end, '-'))
		sign = -1;
	else
		return -EINVAL;
	hours = read_number(&text, end, 2);
	if (hours < 0 || hours > 23 || !skip(&text, end, ':'))
		return -EINVAL;
	minutes = read_number(&text, end, 2);
	if (minutes < 0 || minutes > 59 || text != end)
		return -EINVAL;
	*offset_minutes = sign * (hours * 60 + minutes);
	return 0;
}

int instant_parse(const char *text, size_t length, struct instant *result)
{
	const char *end = text + length;
	int year, month, day, hour, minute, second, error;
	struct instant value = { 0 };

	year = read_number(&text, end, 4);
	if (year < 0 || !skip(&text, end, '-'))
		return -EINVAL;
	month = read_number(&text, end, 2);
	if (month < 1 || month > 12 || !skip(&text, end, '-'))
		return -EINVAL;
	day = read_number(&text, end, 2);
	if (day < 1 || day > days_in_month(year, month) || !skip(&text, end, 'T'))
		return -EINVAL;
	hour = read_number(&text, end, 2);
	if (hour < 0 || hour > 23 || !skip(&text, end, ':'))
		return -EINVAL;
	minute = read_number(&text, end, 2);
	if (minute < 0 || minute > 59 || !skip(&text, end, ':'))
		return -EINVAL;
	second = read_number(&text, end, 2);
	if (second < 0 || second > 59)
		return -EINVAL;
	if (skip(&text, end, '.')) {
		int32_t unit = 100000000;

		if (text == end || *text < '0' || *text > '9')
			return -EINVAL;
		for (; text < end && *text >= '0' && *text <= '9'; text++, unit /= 10)
			value.nanoseconds += (*text - '0') * unit;
	}
	error = read_zone(text, end, &value.offset_minutes);
	if (error)
		return error;
	value.seconds = days_from_date(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second -
			(int64_t)value.offset_minutes * 60;
	*result = value;
	return 0;
}

char *instant_format(struct instant value, char text[INSTANT_TEXT_SIZE])
{
	int64_t local = value.seconds + (int64_t)value.offset_minutes * 60;
	int64_t days = local / SECONDS_PER_DAY, rest = local % SECONDS_PER_DAY;
	int64_t year, month, day;
	int length;

	if (rest < 0) {
		rest += SECONDS_PER_DAY;
		days--;
	}
	date_from_days(days, &year, &month, &day);
	length = snprintf(text, INSTANT_TEXT_SIZE, "%04lld-%02lld-%02lldT%02lld:%02lld:%02lld", (long long)year,
			  (long long)month, (long long)day, (long long)(rest / 3600), (long long)(rest / 60 % 60),
			  (long long)(rest % 60));
	if (value.nanoseconds) {
		length += snprintf(text + length, INSTANT_TEXT_SIZE - (size_t)length, ".%09d", (int)value.nanoseconds);
		while (text[length - 1] == '0')
			length--;
	}
	if (!value.offset_minutes) {
		snprintf(text + length, INSTANT_TEXT_SIZE - (size_t)length, "Z");
	} else {
		int32_t offset = value.offset_minutes < 0 ? -value.offset_minutes : value.offset_minutes;

		snprintf(text + length, INSTANT_TEXT_SIZE - (size_t)length, "%c%02d:%02d",
			 value.offset_minutes < 0 ? '-' : '+', (int)(offset / 60), (int)(offset % 60));
	}
	return text;
}

int instant_compare(struct instant a, struct instant b)
{
	if (a.seconds != b.seconds)
		return a.seconds < b.seconds ? -1 : 1;
	return (a.nanoseconds > b.nanoseconds) - (a.nanoseconds < b.nanoseconds);
}

bool instant_is_zero(struct instant value)
{
	return value.seconds == ZERO_TIME_SECONDS && value.nanoseconds == 0;
}
