/**
 * Flags for the Node that runs a command, as bin/assay gives them. An agent with thousands of streams makes much garbage that lives
 * shortly: a small young generation keeps it at 262 MiB where V8 by itself would take 380 (bench/RESULTS.md), for 7 % more CPU.
 */
export function nodeFlags ([first, second]: readonly string[]): readonly string[] {
  return flags[`${first} ${second}`] ?? []
}

const flags: Readonly<Record<string, readonly string[]>> = {
  'agent run': ['--max-semi-space-size=4'],
  // V8 lets a heap that has just read 10 000 rules double before it cleans up, and each of its helping threads keeps memory of its own:
  // 138 MiB after 40 000 checks instead of 195, for the same CPU.
  'authz serve': ['--max-semi-space-size=2', '--heap-growing-percent=30', '--v8-pool-size=1']
}
