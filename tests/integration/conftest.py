# SPDX-License-Identifier: Apache-2.0


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="every test at full size")
