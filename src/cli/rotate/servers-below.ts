import { SpiffeError } from '../../spiffe/errors.ts'
import { entryService } from '../../wire/generated/server-entry.ts'
import { kindNames, type AuthorityKind } from '../authority/authority-calls.ts'
import { formatIds } from '../convergence/consumers.ts'
import { allPages, pageSize } from '../paged.ts'
import type { Servers } from '../servers.ts'
import type { Terminal } from '../terminal.ts'
import type { RotationStep } from './rotation-plan.ts'

/** SPIFFE IDs of servers whose CA may be signed here, by their entries; each once. Who is below them is known to them alone. */
export async function serversBelow (servers: Servers, terminal: Terminal): Promise<string[]> {
  const entries = await servers.ask(channel => allPages(terminal, 'entries', async pageToken => {
    const { entries: items, nextPageToken } = await channel.client(entryService).listEntries({
      filter: { byDownstream: { value: true } }, outputMask: { spiffeId: true }, pageSize, pageToken
    }, { signal: terminal.signal })
    return { items, nextPageToken }
  }))
  const ids = entries.flatMap(({ spiffeId }) => spiffeId === undefined ? [] : [`spiffe://${spiffeId.trustDomain}${spiffeId.path}`])
  return [...new Set(ids)].toSorted()
}

/**
 * Whether it breaks servers below, and who is below them, that do not have what was done before: they do not know what signs now, or are
 * still below what goes. Of JWT keys nothing below hangs on the one that goes.
 */
export function breaksThoseBelow (kind: AuthorityKind, { verb }: RotationStep): boolean {
  return verb === 'activate' || (verb === 'revoke' && kind === 'x509')
}

/** Says by name who was not asked, and what is to be looked at there. */
export function notAsked (below: readonly string[], kind: AuthorityKind, step: RotationStep): SpiffeError {
  const name = kindNames[kind]
  const look = step.verb === 'activate'
    ? '`assay bundle show` has the prepared authority too, and `assay status` says that every live agent is there'
    : '`assay localauthority x509 show` has a CA below the new root, and `assay status` names no live agent behind or without an SVID'
  const who = `servers below this one cannot be waited for (${formatIds(below)})`
  return new SpiffeError('servers_below', `${who}: ${step.verb} the ${name} authority once, at each level below, ${look}`, {
    details: { below }
  })
}
