// SPDX-License-Identifier: Apache-2.0
#pragma once
/* `hyper server run`: runs the message server until it is told to stop.
 * `settings` is a struct hyper_settings. Returns the exit status. */
int hyper_server_run(int argc, char **argv, void *settings);
