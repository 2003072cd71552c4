import { systemClock } from '../../runtime/clock.ts'
import { isStop } from '../../runtime/tasks.ts'
import { defineCommand, type Call, type ExitCode } from '../command.ts'
import { beginWait, tellChange, waitFlags } from '../convergence/wait.ts'
import { numberFlag, pathFlag, switchFlag, textFlag, type FlagValues } from '../flag.ts'
import { usage } from '../parse-flags.ts'
import { tellFailure } from '../refusal.ts'
import { withServers, type Servers } from '../servers.ts'
import { outputFlag, replicaFlags } from '../socket-path.ts'
import { attachBundles } from './attach-bundles.ts'
import { checkSignoff } from './check-signoff.ts'
import { formatChange, policyConcern } from './format-policy.ts'
import { keepApplied } from './keep-applied.ts'
import { entriesFlag } from './load-policies.ts'
import { activeNumber, applyPolicyTexts, checkPolicyFiles } from './policy-calls.ts'
import { readPolicyFiles } from '../../authz/policy-files/read-policy-files.ts'

const flags = {
  comment: textFlag('why, for the history'),
  replaces: numberFlag('the version that is active as far as you know, 0 for none; refused when it is another', { minimum: 0 }),
  dryRun: switchFlag('only say what would become of it'),
  requireSignoff: switchFlag('refuse it if a recorded request would be answered otherwise, and nobody has signed for that'),
  against: pathFlag('with -requireSignoff: a decision log of JSON lines; read as gzip when its name ends with .gz'),
  signoff: pathFlag('with -requireSignoff: flips that were reviewed (`assay policy diff` tells them)'),
  entries: entriesFlag,
  opa: pathFlag('the program opa, which compiles what RegoBundle documents name and is not compiled'),
  watch: switchFlag('go on until Ctrl-C, and apply the whole again after each change of the files'),
  ...waitFlags,
  ...replicaFlags,
  output: outputFlag
}

type ApplyCall = Call<typeof flags>

export const policyApply = defineCommand({
  flags,
  argument: { name: 'PATH...', most: 1_024 },
  details: 'Files, or folders of *.yaml, *.yml and *.json. Together they become the active set, in place of all that was active:\n' +
    'all of it or nothing.\n' +
    'With -watch a set that is broken leaves the last good one; the exit code is 0 if what the files said last is active, else 1.',
  examples: [
    'assay policy apply policies/ --wait',
    'assay policy apply web.yaml db.yaml -comment web-may-read -replaces 7',
    'assay policy apply policies/ -dryRun --output json',
    'assay policy apply policies/ -requireSignoff -against decisions.log.gz -signoff reviewed.yaml',
    'assay policy apply /srv/checkout/policies -watch'
  ],
  async run (call) {
    refuseTogether(call.flags)
    return await withServers(call, servers => call.flags.watch ? watchAndApply(call, servers) : applyOnce(call, servers))
  }
})

async function applyOnce (call: ApplyCall, servers: Servers): Promise<ExitCode> {
  const { flags: { comment, dryRun, ...given }, terminal } = call
  const { signal } = terminal
  const files = await attachBundles(await readPolicyFiles(call.arguments), { opaPath: given.opa }, signal)
  const candidate = await checkPolicyFiles(files, servers, signal)
  const replaces = given.replaces ?? await activeNumber(servers, signal)
  const { against, signoff, entries } = given
  // The version it was held against is the one that is replaced, or nothing is.
  if (against !== undefined) await checkSignoff({ against, signoff, entries }, candidate, replaces, servers, terminal)
  const wait = dryRun ? undefined : await beginWait(call, servers)
  const change = await applyPolicyTexts(files, { replaces, comment, dryRun }, servers, signal)
  const json = { ...change, ...dryRun ? { dryRun } : {} }
  return await tellChange(call, { json, pretty: () => terminal.out(formatChange(change, { dryRun })) }, wait, policyConcern(change))
}

async function watchAndApply (call: ApplyCall, servers: Servers): Promise<ExitCode> {
  const { flags: { comment = '', output }, terminal } = call
  const { signal } = terminal
  let code: ExitCode = 1
  try {
    let wait = await beginWait(call, servers)
    for await (const event of keepApplied(call.arguments, { servers, comment, clock: systemClock }, signal)) {
      if (event.kind === 'applied') {
        const { change } = event
        await tellChange(call, { json: change, pretty: () => terminal.out(formatChange(change)) }, wait, policyConcern(change))
        wait = await beginWait(call, servers)
        code = 0
        continue
      }
      code = 1
      tellFailure(terminal, event.error, output, ['assay', 'policy', 'apply'])
      if (output === 'pretty') {
        terminal.err(`What is active stays; ${event.kind === 'away' ? 'trying on' : 'waiting for the files to change'}\n`)
      }
    }
  } catch (error) {
    if (isStop(error, signal) || signal.aborted) return code
    throw error
  }
  return code
}

function refuseTogether ({ watch, dryRun, replaces, requireSignoff, against, signoff, entries, opa }: FlagValues<typeof flags>): void {
  if (requireSignoff && against === undefined) throw usage('-requireSignoff needs -against: name a decision log')
  if (!requireSignoff && [against, signoff, entries].some(path => path !== undefined)) {
    throw usage('-against, -signoff and -entries are for -requireSignoff')
  }
  if (requireSignoff && watch) throw usage('-watch and -requireSignoff exclude each other: a signature is for one revision')
  if (watch && opa !== undefined) throw usage('-watch and -opa exclude each other: build the bundle where it is written')
  if (watch && dryRun) throw usage('-watch and -dryRun exclude each other')
  if (watch && replaces !== undefined) throw usage('-watch and -replaces exclude each other: the files always replace what is active')
}
