// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The address that a request id carries: operator "." method "(" id ")"
 * (protocol page 5.1). Pure. */

struct address {
	char *operator_name; /* may contain dots; not empty */
	char *method;        /* no '.' and no '(' */
	char *id;            /* no ')'; may contain dots and '(' */
};

/* The whole text must match; where several splits are possible the last one is
 * taken. Returns 0, -EINVAL or -ENOMEM. On success the three texts belong to
 * the address (address_clear). */
int address_parse(const char *text, struct address *result);
void address_clear(struct address *address);

/* "operator.method(id)", malloc'd; NULL without memory. */
char *address_compose(const char *method_address, const char *id);
