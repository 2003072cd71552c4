import type { ControllerPlan } from '../../controller/plan-changes.ts'
import type { DesiredEntry } from '../../controller/desired/desired-entry.ts'
import type { ManagedField, StoredEntry } from '../../controller/desired/diff-entries.ts'
import { formatSelector } from '../../spiffe/selector.ts'
import { counted, printable } from '../pretty.ts'

/** A line of what would be done and of what would be left alone, each with its reason. */
export function formatPlan ({ entries, federation, declared, problems, masked, skipped }: ControllerPlan): string {
  const wantedBy = (key: string) => {
    const by = declared(key)[0]?.by
    return by === undefined ? '' : ` (${by.kind} ${by.name})`
  }
  const lines = [
    ...entries.create.map(({ entry, key }) => `+ entry ${entry.spiffeId}${wantedBy(key)}\n${details(entry)}`),
    ...entries.update.map(({ entry, key, before, fields }) =>
      `~ entry ${entry.spiffeId}${wantedBy(key)}\n      id ${entry.id}\n${fields.map(field => change(field, before, entry)).join('')}`),
    ...entries.remove.map(({ entry }) => `- entry ${entry.spiffeId}: nothing declares it\n${details(entry)}`),
    ...federation.create.map(({ relationship: { trustDomain, endpoint }, by }) =>
      `+ federation ${trustDomain} at ${endpoint.url}, ${endpoint.profile.kind} (${by.name})\n`),
    ...federation.update.map(({ relationship: { trustDomain, endpoint }, by }) =>
      `~ federation ${trustDomain}: ${endpoint.url}, ${endpoint.profile.kind} (${by.name})\n`),
    ...federation.remove.map(trustDomain => `- federation ${trustDomain}: nothing declares it\n`),
    ...[...entries.foreign].map(([key, id]) =>
      `! entry ${declared(key)[0]?.entry.spiffeId}${wantedBy(key)} is there as ${printable(id)}, somebody else's: left as it is\n`),
    ...[...federation.foreign].map(trustDomain => `! federation ${trustDomain} is there, somebody else's: left as it is\n`),
    ...masked.map(({ kind, name, by, what }) => `! ${kind} ${name}: ${what} is declared by ${by}, which is older\n`),
    ...problems.map(({ kind, name, message }) => `! ${kind} ${name}: ${printable(message)}\n`),
    ...Object.entries(skipped).map(([reason, count]) => `  ${counted(count, 'time', 'times')} a pod got no entry: ${reason}\n`)
  ]
  const both = (what: 'create' | 'update' | 'remove') => entries[what].length + federation[what].length
  return `${lines.join('')}Plan: ${both('create')} to create, ${both('update')} to change, ${both('remove')} to remove.\n`
}

function details ({ id, parentId, selectors }: StoredEntry | DesiredEntry): string {
  return `      id ${id}\n      parent ${parentId}\n      selectors ${selectors.map(formatSelector).map(printable).join(', ')}\n`
}

function change (field: ManagedField, before: StoredEntry, after: DesiredEntry): string {
  const text = (entry: StoredEntry | DesiredEntry) => printable(JSON.stringify(entry[field]))
  return `      ${field}: ${text(before)} becomes ${text(after)}\n`
}
