import type { AuthorityState } from '../../wire/generated/server-local-authority.ts'
import { defineCommand, type Call, type Command, type ExitCode } from '../command.ts'
import { beginWait, tellChange, waitFlags, type Wait } from '../convergence/wait.ts'
import { switchFlag, textFlag } from '../flag.ts'
import { usage } from '../parse-flags.ts'
import { withServers, type Servers } from '../servers.ts'
import { outputFlag, replicaFlags } from '../socket-path.ts'
import { authorityCalls, kindNames, type AuthorityCalls, type AuthorityKind, type AuthorityVerb } from './authority-calls.ts'
import { authorityConcerns } from './authority-concerns.ts'
import { formatAuthority } from './format-authority.ts'
import { encodeBreaks, formatBreaks, gateMs, passRevokeGate } from './revoke-gate.ts'

const flags = { ...waitFlags, ...replicaFlags, output: outputFlag }
const idFlag = (kind: AuthorityKind, verb: AuthorityVerb) =>
  textFlag(`the ${kindNames[kind]} authority to ${verb}`, { placeholder: 'ID' })

const participles = { prepare: 'prepared', activate: 'activated', taint: 'tainted', revoke: 'revoked' } as const

export function localAuthorityPrepare (kind: AuthorityKind): Command {
  return defineCommand({
    flags,
    details: 'Makes the next authority and publishes it, so that everybody can verify what it will sign. One that was prepared and not\n' +
      'used is replaced.',
    examples: [`assay localauthority ${kind} prepare --wait`],
    run: call => change(call, kind, 'prepare', calls => calls.prepare())
  })
}

export function localAuthorityActivate (kind: AuthorityKind): Command {
  return defineCommand({
    flags: { authorityID: idFlag(kind, 'activate'), ...flags },
    details: 'From now on the prepared authority signs; what the one before it signed stays valid.',
    examples: [`assay localauthority ${kind} activate -authorityID 6fe5f0a1… --wait`],
    async run (call) {
      const authorityId = required(call.flags.authorityID)
      return change(call, kind, 'activate', calls => calls.activate(authorityId))
    }
  })
}

export function localAuthorityTaint (kind: AuthorityKind): Command {
  return defineCommand({
    flags: { authorityID: idFlag(kind, 'taint'), ...flags },
    details: 'What the old authority signed is replaced, and stays valid meanwhile. Activate another one first.',
    examples: [`assay localauthority ${kind} taint -authorityID 6fe5f0a1… --wait`],
    async run (call) {
      const authorityId = required(call.flags.authorityID)
      return change(call, kind, 'taint', calls => calls.taint(authorityId))
    }
  })
}

export function localAuthorityRevoke (kind: AuthorityKind): Command {
  return defineCommand({
    flags: {
      authorityID: idFlag(kind, 'revoke'),
      force: switchFlag('revoke though live agents have not said that they replaced what it signed; tells who may break'),
      ...flags
    },
    details: 'Takes the tainted authority out of the bundle: nothing that it signed is accepted any more. Refused with exit code 4\n' +
      'while live agents have not said that they replaced what it signed; with -wait they have until -wait-timeout to do so.',
    examples: [
      `assay localauthority ${kind} revoke -authorityID 6fe5f0a1… --wait`,
      `assay localauthority ${kind} revoke -authorityID 6fe5f0a1… -force`
    ],
    async run (call) {
      const { flags: { force, wait, 'wait-timeout': waitMs }, terminal } = call
      const authorityId = required(call.flags.authorityID)
      return withServers(call, async servers => {
        const waits = await beginWait(call, servers)
        const breaks = await passRevokeGate(servers, terminal, { force, timeoutMs: wait ? waitMs : gateMs })
        const state = await servers.change(channel => authorityCalls(channel, kind, { signal: terminal.signal }).revoke(authorityId))
        if (call.flags.output === 'pretty') terminal.err(formatBreaks(breaks))
        return tell(call, kind, 'revoke', state, waits, encodeBreaks(breaks))
      })
    }
  })
}

function required (authorityId: string | undefined): string {
  if (authorityId === undefined) throw usage('an authority ID is required: -authorityID')
  return authorityId
}

type Verb = AuthorityVerb | 'prepare'
type ChangeCall = Call<typeof flags>

async function change (
  call: ChangeCall, kind: AuthorityKind, verb: Verb, make: (calls: AuthorityCalls) => Promise<AuthorityState | undefined>
): Promise<ExitCode> {
  const { signal } = call.terminal
  return withServers(call, async (servers: Servers) => {
    const wait = await beginWait(call, servers)
    return tell(call, kind, verb, await servers.change(channel => make(authorityCalls(channel, kind, { signal }))), wait)
  })
}

async function tell (
  call: ChangeCall, kind: AuthorityKind, verb: Verb, state: AuthorityState | undefined, wait: Wait | undefined, more: object = {}
): Promise<ExitCode> {
  const done = participles[verb]
  const pretty = () => call.terminal.out(formatAuthority(`${done.charAt(0).toUpperCase()}${done.slice(1)}`, kind, state))
  return tellChange(call, { json: { [`${done}Authority`]: state, ...more }, pretty }, wait, authorityConcerns[verb])
}
