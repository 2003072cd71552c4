import type { AuthorityState } from '../../wire/generated/server-local-authority.ts'
import { defineCommand, type Call, type Command, type ExitCode } from '../command.ts'
import type { Concern } from '../convergence/await-convergence.ts'
import { beginWait, tellChange, waitFlags } from '../convergence/wait.ts'
import { textFlag } from '../flag.ts'
import { usage } from '../parse-flags.ts'
import { withServers } from '../servers.ts'
import { outputFlag, replicaFlags } from '../socket-path.ts'
import { authorityCalls, kindNames, type AuthorityCalls, type AuthorityKind, type AuthorityVerb } from './authority-calls.ts'
import { formatAuthority } from './format-authority.ts'

const flags = { ...waitFlags, ...replicaFlags, output: outputFlag }

/** What each step of an authority's life means to who uses it. */
const meanings: Readonly<Record<AuthorityVerb | 'prepare', string>> = {
  prepare: 'Makes the next authority and publishes it, so that everybody can verify what it will sign. One that was prepared and not\n' +
    'used is replaced.',
  activate: 'From now on the prepared authority signs; what the one before it signed stays valid.',
  taint: 'What the old authority signed is replaced, and stays valid meanwhile. Activate another one first.',
  revoke: 'Takes the tainted authority out of the bundle: nothing that it signed is accepted any more.'
}
const participles = { prepare: 'prepared', activate: 'activated', taint: 'tainted', revoke: 'revoked' } as const

/** Every agent holds the bundle; one that could not have what the tainted authority signed replaced does not have the taint. */
export const authorityConcerns: Readonly<Record<AuthorityVerb | 'prepare', Concern>> = {
  prepare: { entryIds: [] },
  activate: { entryIds: [] },
  taint: { entryIds: [], mustServe: 'any' },
  revoke: { entryIds: [] }
}

export function localAuthorityPrepare (kind: AuthorityKind): Command {
  return defineCommand({
    flags,
    details: meanings.prepare,
    examples: [`assay localauthority ${kind} prepare --wait`],
    run: call => change(call, kind, 'prepare', calls => calls.prepare())
  })
}

export function localAuthorityVerb (kind: AuthorityKind, verb: AuthorityVerb): Command {
  return defineCommand({
    flags: { authorityID: textFlag(`the ${kindNames[kind]} authority to ${verb}`, { placeholder: 'ID' }), ...flags },
    details: meanings[verb],
    examples: [`assay localauthority ${kind} ${verb} -authorityID 6fe5f0a1… --wait`],
    async run (call) {
      const { authorityID } = call.flags
      if (authorityID === undefined) throw usage('an authority ID is required: -authorityID')
      return change(call, kind, verb, calls => calls[verb](authorityID))
    }
  })
}

async function change (
  call: Call<typeof flags>, kind: AuthorityKind, verb: AuthorityVerb | 'prepare',
  make: (calls: AuthorityCalls) => Promise<AuthorityState | undefined>
): Promise<ExitCode> {
  const { terminal } = call
  const done = participles[verb]
  return withServers(call, async servers => {
    const wait = await beginWait(call, servers)
    const state = await servers.change(channel => make(authorityCalls(channel, kind, { signal: terminal.signal })))
    const pretty = () => terminal.out(formatAuthority(`${done.charAt(0).toUpperCase()}${done.slice(1)}`, kind, state))
    return tellChange(call, { json: { [`${done}Authority`]: state }, pretty }, wait, authorityConcerns[verb])
  })
}
