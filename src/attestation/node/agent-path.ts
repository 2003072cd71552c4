import { spireFunctions } from '../../golang/template/sprig-functions.ts'
import { type Template, parseTemplate } from '../../golang/template/parse-template.ts'
import { admitInSegment, renderTemplate, type TemplateData } from '../../golang/template/render-template.ts'
import type { Field, FieldType } from '../../golang/template/field-type.ts'
import type { Admit } from '../../golang/template/template-functions.ts'
import { parsedBy } from '../../runtime/config-schema.ts'
import { SpiffeError } from '../../spiffe/errors.ts'

/** A field that the server fills by itself: it may be of several path segments. */
export const ownText: Omit<Field, 'json'> = { type: { kind: 'text' }, trusted: true }

/** Fields by their names in Go, each of that name in the data. */
export function fieldsOf (fields: Readonly<Record<string, FieldType | Omit<Field, 'json'>>>): FieldType {
  const named = Object.entries(fields).map(([name, field]) => [name, { ...'kind' in field ? { type: field } : field, json: name }])
  return { kind: 'record', fields: Object.fromEntries(named) as Record<string, Field> }
}

/** SPIRE's `agent_path_template`: what comes after `/spire/agent` in an agent's ID; empty for the attestor's own form. */
export function agentPathTemplate (fields: FieldType) {
  return parsedBy((source): Template | undefined => {
    if (source === '') return undefined
    const template = parseTemplate(source, fields, spireFunctions)
    // As in SPIRE, whose documentation leaves it out in places.
    const [first] = template.nodes
    if (first?.kind === 'text' && !first.text.startsWith('/')) {
      throw new SpiffeError('template_malformed', 'at character 1: must begin with a slash')
    }
    return template
  }).optional()
}

/**
 * What comes after `/spire/agent` in an agent's ID.
 * @param admit where what the machine brought may stand: inside of one path segment unless told
 * @throws {SpiffeError} `template_not_rendered`
 */
export function renderAgentPath (template: Template, data: TemplateData, admit: Admit = admitInSegment): string {
  const path = renderTemplate(template, data, admit)
  if (path.startsWith('/')) return path
  const rule = `agent_path_template gives ${JSON.stringify(path.slice(0, 64))}, which begins with no slash`
  throw new SpiffeError('template_not_rendered', rule)
}
