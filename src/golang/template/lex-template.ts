import { SpiffeError } from '../../spiffe/errors.ts'

export type TokenKind =
  | 'text' | 'open' | 'close' | 'space' | 'pipe' | 'left' | 'right' | 'comma' | 'declare' | 'assign'
  | 'field' | 'dot' | 'variable' | 'word' | 'string' | 'number' | 'char'

export interface Token {
  readonly kind: TokenKind
  /** As a program uses it: a field without its dot, a string without quotes and escapes. */
  readonly text: string
  /** Characters from the template's begin, from 0. */
  readonly at: number
}

/** Refuses a template, telling where. @param at characters from its begin, from 0; told from 1 */
export function templateMalformed (rule: string, at: number): SpiffeError {
  return new SpiffeError('template_malformed', `at character ${at + 1}: ${rule}`)
}

/** Characters; an ID has at most 2048 bytes. */
const maxLength = 16_384
const space = /[ \t\r\n]/

/**
 * Splits a template of Go's text/template into tokens; the text between actions is trimmed where an action says so (`{{-`, `-}}`).
 * @throws {SpiffeError} `template_malformed`
 */
export function lexTemplate (template: string): readonly Token[] {
  if (template.length > maxLength) throw templateMalformed(`is longer than ${maxLength} characters`, maxLength)
  const tokens: Token[] = []
  let trimNext = false
  for (let at = 0; at < template.length;) {
    const begin = template.indexOf('{{', at)
    const end = begin < 0 ? template.length : begin
    let text = template.slice(at, end)
    if (trimNext) text = text.replace(/^[ \t\r\n]+/, '')
    if (begin < 0) {
      if (text !== '') tokens.push({ kind: 'text', text, at })
      break
    }
    const trims = template[begin + 2] === '-' && space.test(template[begin + 3] ?? '')
    if (trims) text = text.replace(/[ \t\r\n]+$/, '')
    if (text !== '') tokens.push({ kind: 'text', text, at })
    const inner = begin + (trims ? 3 : 2)
    const comment = /^[ \t\r\n]*\/\*/.exec(template.slice(inner))
    const action = comment === null ? lexAction(template, inner, begin, tokens) : endOfComment(template, inner + comment[0].length, begin)
    trimNext = action.trims
    at = action.end
  }
  return tokens
}

interface ActionEnd { readonly end: number, readonly trims: boolean }

function endOfComment (template: string, from: number, begin: number): ActionEnd {
  const end = template.indexOf('*/', from)
  const [close] = /^(?:[ \t\r\n]+-)?}}/.exec(end < 0 ? '' : template.slice(end + 2)) ?? []
  if (close === undefined) throw templateMalformed('a comment is not closed by */}}', begin)
  return { end: end + 2 + close.length, trims: close.length > 2 }
}

const forms: ReadonlyArray<readonly [TokenKind, RegExp]> = [
  ['space', /[ \t\r\n]+/y],
  ['field', /\.[A-Za-z_]\w*/y],
  ['number', /[+-]?(?:\d[\w.]*)/y],
  ['dot', /\./y],
  ['variable', /\$\w*/y],
  ['word', /[A-Za-z_]\w*/y],
  ['string', /"(?:[^"\\\n]|\\.)*"|`[^`]*`/y],
  ['char', /'(?:[^'\\\n]|\\.)*'/y],
  ['declare', /:=/y],
  ['assign', /=/y],
  ['pipe', /\|/y],
  ['left', /\(/y],
  ['right', /\)/y],
  ['comma', /,/y]
]

function lexAction (template: string, from: number, begin: number, tokens: Token[]): ActionEnd {
  tokens.push({ kind: 'open', text: '{{', at: begin })
  for (let at = from; at < template.length;) {
    const [close] = /^(?:[ \t\r\n]+-)?}}/.exec(template.slice(at, at + 200)) ?? []
    if (close !== undefined) {
      tokens.push({ kind: 'close', text: '}}', at })
      return { end: at + close.length, trims: close.length > 2 }
    }
    const token = lexOne(template, at)
    tokens.push(token)
    at += token.length
  }
  throw templateMalformed('{{ is not closed by }}', begin)
}

function lexOne (template: string, at: number): Token & { readonly length: number } {
  for (const [kind, form] of forms) {
    form.lastIndex = at
    const [found] = form.exec(template) ?? []
    if (found === undefined) continue
    const text = kind === 'string' ? unquote(found, at) : kind === 'field' ? found.slice(1) : found
    return { kind, text, at, length: found.length }
  }
  const rule = /["'`]/.test(template[at] ?? '') ? 'a quote is not closed' : `unexpected character ${JSON.stringify(template[at])}`
  throw templateMalformed(rule, at)
}

const escapes: Readonly<Record<string, string>> = {
  n: '\n', t: '\t', r: '\r', '\\': '\\', '"': '"', "'": "'", a: '\x07', b: '\b', f: '\f', v: '\v'
}

/** Go's string literals. */
function unquote (quoted: string, at: number): string {
  const inner = quoted.slice(1, -1)
  if (quoted.startsWith('`')) return inner.replaceAll('\r', '')
  return inner.replace(/\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))/g, (whole, byte?: string, unit?: string, single?: string) => {
    const code = byte ?? unit
    const number = code === undefined ? NaN : Number.parseInt(code, 16)
    // A byte above is a part of a character.
    if (number <= (byte === undefined ? 0xffff : 0x7f)) return String.fromCharCode(number)
    const escaped = single === undefined ? undefined : escapes[single]
    if (escaped === undefined) throw templateMalformed(`the escape ${whole} is not offered`, at)
    return escaped
  })
}
