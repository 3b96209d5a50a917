// SPDX-License-Identifier: BSL-1.0
// The program around headers that only have to compile and link.
int main() {}
