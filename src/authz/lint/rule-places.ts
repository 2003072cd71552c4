import { parseYaml } from '../../runtime/yaml-text.ts'
import { apiVersion } from '../policy/policy-schema.ts'
import type { PolicyText } from '../policy/read-policies.ts'

/** Finding a place takes longer than reading; of more text, the file alone is named. */
const mostLength = 4 * 1_048_576

/** Where each rule and each scope stands, `file:line`, by the name that findings give it. */
export function placesIn (texts: readonly PolicyText[]): ReadonlyMap<string, string> {
  const places = new Map<string, string>()
  let left = mostLength
  for (const { name, text } of texts) {
    left -= text.length
    if (left < 0) break
    const documents = parseYaml(name, text)
    if ('problems' in documents) continue
    // A text of JSON may be a list of documents.
    for (const document of documents) {
      const { raw } = document
      if (Array.isArray(raw)) for (const [i, one] of raw.entries()) collect(one, path => document.where([i, ...path]), places)
      else collect(raw, path => document.where(path), places)
    }
  }
  return places
}

function collect (raw: unknown, where: (path: readonly PropertyKey[]) => string, places: Map<string, string>): void {
  const document = raw as Readonly<Record<string, unknown>> | null
  if (document?.['apiVersion'] !== apiVersion) return
  const { kind, name, rules, trustDomain } = document
  if (kind === 'FederationScope') places.set(`federation/${String(trustDomain)}`, where([]))
  if (kind !== 'Policy' || !Array.isArray(rules)) return
  for (const [i, rule] of (rules as { name?: string }[]).entries()) places.set(`${String(name)}/${rule.name ?? ''}`, where(['rules', i]))
}
