// SPDX-License-Identifier: Apache-2.0
#pragma once
/* A contender's daemon: its settings are written from a template, its process started in
 * the place of the relay and in a process group of its own. In templates and
 * command lines stand
 *
 *   @ADDRESS@ @FRONT@   address and port to listen on
 *   @SECOND@ @BACK@     address and port to dial
 *   @MIDDLE@            a free port, for relays that are two services
 *   @FOLDER@            of certificate and key (identity.h), and of logs
 *   @SETTINGS@          the file made from the template
 *   @PROCESSORS@        their number */
#include "contender.h"

/* Templates are in `folder`. Before any start. */
void daemon_set_templates(const char *folder);

/* Finds contender->port, starts, and waits until it is listening. `back` is the port to dial, or 0. */
bool daemon_start(struct contender *contender, uint16_t back);
void daemon_stop(struct contender *contender);
