import type { AdminObject } from '../../authz/admin/admin-object.ts'
import { decideAdministration } from '../../authz/admin/decide.ts'
import type { AdminRole } from '../../authz/admin/role.ts'
import { adminVerbs, type AdminVerb } from '../../authz/admin/verb.ts'
import { KnownPrivileges } from '../../server/privileges.ts'
import type { ServerConfig } from '../../server/server-config.ts'
import { checkEntry } from '../../spiffe/check-entry.ts'
import { parseSpiffeId, type SpiffeId } from '../../spiffe/spiffe-id.ts'
import { decodeMessage } from '../../wire/decode-message.ts'
import { encodeMessage } from '../../wire/encode-message.ts'
import { decodeEntryDraft } from '../../wire/entry-codec.ts'
import { Entry as EntryMessage } from '../../wire/generated/types.ts'
import { defineCommand } from '../command.ts'
import { numberFlag, pathFlag, textFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { outputFlag } from '../socket-path.ts'
import { readServerConfig, serverConfigFlags } from '../server/server-config-flags.ts'
import { describeScope } from './describe-role.ts'

interface CheckedItem {
  readonly spiffeId?: string | undefined
  readonly allowed: boolean
  readonly role?: string | undefined
  readonly outside?: string | undefined
  readonly value?: string | undefined
}

export const roleCheck = defineCommand({
  flags: {
    ...serverConfigFlags,
    id: textFlag('who: a SPIFFE ID', { placeholder: 'SPIFFE-ID' }),
    uid: numberFlag('who: a user on the admin socket, by number', { minimum: 0, placeholder: 'UID' }),
    verb: textFlag('what: a verb such as entries.write; without it, all that is granted', { placeholder: 'VERB' }),
    entry: pathFlag('entries to do it with, in the form of `assay entry create -data`; - is standard input'),
    output: outputFlag
  },
  details: 'Reads the server\'s configuration, not a running server: entries with the admin flag, which may do all, are not known here.\n' +
    'Exit code 0: allowed. 1: not, for at least one entry.',
  examples: [
    'assay role check -config server.yaml -id spiffe://example.org/ci/team-a',
    'assay role check -config server.yaml -uid 1001 -verb agents.ban',
    'assay role check -config server.yaml -id spiffe://example.org/ci/team-a -verb entries.write -entry entries.json --output json'
  ],
  async run ({ flags, terminal }) {
    const { id, uid, verb, entry, output } = flags
    if ((id === undefined) === (uid === undefined)) throw usage('one of -id and -uid is required')
    if (verb !== undefined && !isVerb(verb)) throw usage(`-verb is one of ${adminVerbs.join(', ')}`)
    if (entry !== undefined && verb?.startsWith('entries.') !== true) throw usage('-entry goes with -verb entries.read or entries.write')
    const config = await readServerConfig(flags, terminal)
    const who = id === undefined ? { uid: uid as number } : { id: parseSpiffeId(id) }
    const roles = 'id' in who ? config.roles.ofId(who.id) : config.roles.ofUid(who.uid)
    const unrestricted = isUnrestricted(who, roles, config)
    if (verb === undefined) {
      const held = roles.map(({ name, verbs, scope }) => ({ name, verbs: [...verbs], scope: describeScope(scope) }))
      const told = { unrestricted, roles: held }
      terminal.out(output === 'json' ? `${formatJson(told)}\n` : formatHolder(told))
      return unrestricted || roles.length > 0 ? 0 : 1
    }
    const objects = entry === undefined ? [undefined] : await readObjects(entry, config, terminal)
    const adminIds = new Set(config.adminIds)
    const privileges = new KnownPrivileges({ adminIds, roles: config.roles, registry: { someEntry: () => false } })
    const items = objects.map((object): CheckedItem =>
      ({ ...nameOf(object), ...unrestricted ? { allowed: true } : decideAdministration(roles, verb, object, privileges) }))
    const allowed = items.every(item => item.allowed)
    if (output === 'json') terminal.out(`${formatJson({ allowed, unrestricted, items })}\n`)
    else terminal.out(items.map(item => formatItem(verb, item)).join(''))
    return allowed ? 0 : 1
  }
})

function isVerb (text: string): text is AdminVerb { return adminVerbs.includes(text as AdminVerb) }

type Who = { readonly id: SpiffeId } | { readonly uid: number }

function isUnrestricted (who: Who, roles: readonly AdminRole[], { adminIds, socketRequiresRole }: ServerConfig): boolean {
  if ('id' in who) return adminIds.includes(who.id)
  return roles.length === 0 && (!socketRequiresRole || who.uid === 0)
}

async function readObjects (path: string, { trustDomain }: ServerConfig, terminal: Parameters<typeof readServerConfig>[1]) {
  const { readEntryData } = await import('../entry/entry-data.ts')
  return (await readEntryData(path, terminal)).map((init): AdminObject => {
    const message = decodeMessage(EntryMessage, encodeMessage(EntryMessage, init))
    return { kind: 'entry', entry: checkEntry(decodeEntryDraft(message), trustDomain) }
  })
}

function nameOf (object: AdminObject | undefined) { return object?.kind === 'entry' ? { spiffeId: object.entry.spiffeId } : {} }

function formatItem (verb: AdminVerb, { spiffeId, allowed, role, outside, value }: CheckedItem): string {
  const what = spiffeId === undefined ? verb : `${verb} ${spiffeId}`
  if (allowed) return `allowed: ${what}${role === undefined ? '' : ` by role "${role}"`}\n`
  if (role === undefined) return `denied: ${what}: no role grants ${value}\n`
  const why = outside === 'verb' ? `role "${role}" does not grant ${value}` : `${outside} ${value} is outside role "${role}"`
  return `denied: ${what}: ${why}\n`
}

function formatHolder ({ unrestricted, roles }: {
  readonly unrestricted: boolean, readonly roles: ReadonlyArray<{ name: string, verbs: readonly string[], scope: readonly string[] }>
}): string {
  if (unrestricted) return 'may do all\n'
  if (roles.length === 0) return 'has no role\n'
  return roles.map(({ name, verbs, scope }) =>
    [`role "${name}" grants ${verbs.join(' ')}`, ...scope.map(line => `  ${line}`)].join('\n') + '\n').join('')
}
