// SPDX-License-Identifier: Apache-2.0
/* The one table of reasons: log word and sentence of each outcome. */
#include "base/outcome.h"

static const struct {
	const char *word, *sentence;
} outcomes[] = {
#define OUTCOME_ROW(name, word, sentence) [OUTCOME_##name] = { word, sentence },
	OUTCOMES(OUTCOME_ROW)
#undef OUTCOME_ROW
};

const char *outcome_word(enum outcome outcome)
{
	return (unsigned)outcome < OUTCOME_COUNT ? outcomes[outcome].word : "unknown";
}

const char *outcome_sentence(enum outcome outcome)
{
	return (unsigned)outcome < OUTCOME_COUNT ? outcomes[outcome].sentence : "no such outcome";
}
