import { withServer } from '../channel-call.ts'
import { defineCommand, type Call, type Command } from '../command.ts'
import { textFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import type { AuthorityState } from '../../wire/generated/server-local-authority.ts'
import { authorityCalls, kindNames, type AuthorityCalls, type AuthorityKind, type AuthorityVerb } from './authority-calls.ts'
import { formatAuthority } from './format-authority.ts'

const flags = { ...serverFlags, output: outputFlag }

/** What each step of an authority's life means to who uses it. */
const meanings: Readonly<Record<AuthorityVerb | 'prepare', string>> = {
  prepare: 'Makes the next authority and publishes it, so that everybody can verify what it will sign. One that was prepared and not\n' +
    'used is replaced.',
  activate: 'From now on the prepared authority signs; what the one before it signed stays valid.',
  taint: 'What the old authority signed is replaced, and stays valid meanwhile. Activate another one first.',
  revoke: 'Takes the tainted authority out of the bundle: nothing that it signed is accepted any more.'
}

export function localAuthorityPrepare (kind: AuthorityKind): Command {
  return defineCommand({
    flags,
    details: meanings.prepare,
    examples: [`assay localauthority ${kind} prepare`],
    run: call => change(call, kind, 'prepared', calls => calls.prepare())
  })
}

export function localAuthorityVerb (kind: AuthorityKind, verb: AuthorityVerb): Command {
  const done = { activate: 'activated', taint: 'tainted', revoke: 'revoked' } as const
  return defineCommand({
    flags: { authorityID: textFlag(`the ${kindNames[kind]} authority to ${verb}`, { placeholder: 'ID' }), ...flags },
    details: meanings[verb],
    examples: [`assay localauthority ${kind} ${verb} -authorityID 6fe5f0a1…`],
    async run (call) {
      const { authorityID } = call.flags
      if (authorityID === undefined) throw usage('an authority ID is required: -authorityID')
      return change(call, kind, done[verb], calls => calls[verb](authorityID))
    }
  })
}

async function change (
  call: Call<typeof flags>, kind: AuthorityKind, done: string, make: (calls: AuthorityCalls) => Promise<AuthorityState | undefined>
): Promise<0> {
  const { flags, terminal } = call
  const state = await withServer(call, channel => make(authorityCalls(channel, kind, { signal: terminal.signal })))
  terminal.out(flags.output === 'json'
    ? `${formatJson({ [`${done}Authority`]: state })}\n`
    : formatAuthority(`${done.charAt(0).toUpperCase()}${done.slice(1)}`, kind, state))
  return 0
}
