import type { Command, Operand, Pipe, Template, TemplateNode } from './parse-template.ts'
import { noField } from './parse-template.ts'
import { applyFunction, plainText, type Admit, type TemplateFunctions } from './template-functions.ts'
import { ForeignText, isTrue, memberOf, Missing, notRendered, Tree, type Value, valueOf } from './template-values.ts'

/** By the names that the template's fields have in data. */
export type TemplateData = Readonly<Record<string, unknown>>

/** Bytes; four times what an ID may have. */
const maxBytes = 8_192

/** What foreign text may stand anywhere, as in a DNS name or a selector: these are checked as a whole. */
export const admitAny: Admit = ({ text }) => text

/**
 * Foreign text inside of one path segment of a SPIFFE ID: it cannot begin another segment, whatever a label or an annotation says.
 * @throws {SpiffeError} `template_not_rendered`
 */
export const admitInSegment: Admit = ({ text, from }) => {
  const [wrong] = /[^A-Za-z0-9._-]/.exec(text) ?? []
  if (wrong === undefined) return text
  throw notRendered(`${from} holds ${JSON.stringify(wrong)}, which no path segment of a SPIFFE ID may (ID-07)`)
}

/** Foreign text that may be several path segments, for values that are made to be such. @throws {SpiffeError} `template_not_rendered` */
export const admitPath: Admit = ({ text, from }) => {
  const [wrong] = /[^A-Za-z0-9._/-]/.exec(text) ?? []
  if (wrong === undefined) return text
  throw notRendered(`${from} holds ${JSON.stringify(wrong)}, which no path of a SPIFFE ID may (ID-07)`)
}

/** @throws {SpiffeError} `template_not_rendered`, naming the value at fault */
export function renderTemplate ({ nodes, fields, functions }: Template, data: TemplateData, admit: Admit): string {
  const root = new Tree(fields, data, '')
  let text = ''
  for (const part of renderNodes(nodes, { root, dot: root, functions, admit })) {
    text += part
    if (text.length > maxBytes) throw notRendered(`is longer than ${maxBytes} bytes`)
  }
  return text
}

interface Scope { readonly root: Tree, readonly dot: Value, readonly functions: TemplateFunctions, readonly admit: Admit }

function * renderNodes (nodes: readonly TemplateNode[], scope: Scope): Generator<string, void, undefined> {
  for (const node of nodes) {
    if (node.kind === 'text') {
      yield node.text
    } else if (node.kind === 'action') {
      yield plainText(valueOfPipe(node.pipe, scope), scope.admit)
    } else {
      const value = valueOfPipe(node.pipe, scope)
      if (!isTrue(value)) yield * renderNodes(node.otherwise, scope)
      else yield * renderNodes(node.body, node.kind === 'with' ? { ...scope, dot: value } : scope)
    }
  }
}

function valueOfPipe ({ commands }: Pipe, scope: Scope): Value {
  let last: Value | undefined
  for (const command of commands) last = valueOfCommand(command, last, scope)
  return last as Value
}

function valueOfCommand ({ name, operands }: Command, piped: Value | undefined, scope: Scope): Value {
  if (name === undefined) return valueOfOperand(operands[0] as Operand, scope)
  const values: Value[] = []
  for (const operand of operands) {
    const value = valueOfOperand(operand, scope)
    // These two stop at what decides, so that what follows need not be there.
    if ((name === 'and' && !isTrue(value)) || (name === 'or' && isTrue(value))) return value
    values.push(value)
  }
  return applyFunction(scope.functions, name, piped === undefined ? values : [...values, piped], scope.admit)
}

function valueOfOperand (operand: Operand, scope: Scope): Value {
  if (operand.kind === 'constant') return operand.value
  const { of } = operand
  const begin = of === 'dot' ? scope.dot : of === 'root' ? scope.root : valueOfPipe(of, scope)
  return operand.names.reduce<Value>(fieldOf, begin)
}

function fieldOf (value: Value, name: string): Value {
  if (value instanceof Missing) return value
  if (!(value instanceof Tree)) throw notRendered(`${value instanceof ForeignText ? value.from : 'a constant'} has no field .${name}`)
  const { type, raw, path } = value
  if (type.kind === 'map') return memberOf(value, name, from => new Missing(from))
  const known = type.kind === 'record' ? type.fields : {}
  if (!Object.hasOwn(known, name)) throw notRendered(noField(path, name, Object.keys(known)))
  const field = known[name] as (typeof known)[string]
  return valueOf(field.type, (raw as Record<string, unknown> | undefined)?.[field.json], `${path}.${name}`, field.trusted)
}
