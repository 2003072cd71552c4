import { lexTemplate, templateMalformed, type Token, type TokenKind } from './lex-template.ts'
import { goFunctions, type TemplateFunctions } from './template-functions.ts'
import type { FieldType } from './field-type.ts'

export type TemplateNode =
  | { readonly kind: 'text', readonly text: string }
  | { readonly kind: 'action', readonly pipe: Pipe }
  | {
    readonly kind: 'if' | 'with'
    readonly pipe: Pipe
    readonly body: readonly TemplateNode[]
    readonly otherwise: readonly TemplateNode[]
  }

/** The value of each command is the last argument of the next one. */
export interface Pipe { readonly commands: readonly Command[], readonly at: number }

export interface Command {
  /** A value alone, or a function before its arguments. */
  readonly name: string | undefined
  readonly operands: readonly Operand[]
  readonly at: number
}

export type Operand =
  | { readonly kind: 'constant', readonly value: string | number | boolean | null, readonly at: number }
  /** `.A.B`, `$.A`, `(…).A`: fields of what stands before them. */
  | { readonly kind: 'fields', readonly of: 'dot' | 'root' | Pipe, readonly names: readonly string[], readonly at: number }

/** A template that was read: of a subset of Go's text/template, with fields that exist. */
export interface Template {
  readonly source: string
  readonly nodes: readonly TemplateNode[]
  readonly fields: FieldType
  readonly functions: TemplateFunctions
}

const maxDepth = 32
/** Keywords of text/template that no template of IDs needs. */
const refusedKeywords = new Set(['range', 'define', 'template', 'block', 'break', 'continue'])

/**
 * Reads a template: text, fields, pipes, constants, `if`, `else`, `with`, comments, trimming, and functions.
 * @param fields what it may read
 * @param functions those of text/template unless told
 * @throws {SpiffeError} `template_malformed`, naming what is not offered and where it stands
 */
export function parseTemplate (source: string, fields: FieldType, functions: TemplateFunctions = goFunctions): Template {
  const parser = new Parser(lexTemplate(source), fields, functions, source.length)
  return { source, nodes: parser.whole(), fields, functions }
}

class Parser {
  readonly #tokens: readonly Token[]
  readonly #fields: FieldType
  readonly #functions: TemplateFunctions
  readonly #length: number
  #next = 0
  #depth = 0
  /** Inside of `with` the dot is something else, which is seen only when it is rendered. */
  #dotIsRoot = true

  constructor (tokens: readonly Token[], fields: FieldType, functions: TemplateFunctions, length: number) {
    this.#tokens = tokens
    this.#fields = fields
    this.#functions = functions
    this.#length = length
  }

  whole (): readonly TemplateNode[] {
    const { nodes, end } = this.#list()
    if (end !== undefined) throw templateMalformed(`{{ ${end.text} }} without {{ if }} or {{ with }}`, end.at)
    return nodes
  }

  /** Up to the end, or to an action that ends a block, whose word it takes. */
  #list (): { readonly nodes: TemplateNode[], readonly end: Token | undefined } {
    const nodes: TemplateNode[] = []
    for (let token = this.#take(); token !== undefined; token = this.#take()) {
      if (token.kind === 'text') {
        nodes.push({ kind: 'text', text: token.text })
        continue
      }
      const word = this.#peek()
      if (word?.kind === 'word' && (word.text === 'end' || word.text === 'else')) return { nodes, end: this.#take() }
      if (word?.kind === 'word' && (word.text === 'if' || word.text === 'with')) nodes.push(this.#block())
      else nodes.push({ kind: 'action', pipe: this.#pipe('close') })
    }
    return { nodes, end: undefined }
  }

  #block (): TemplateNode {
    const word = this.#take() as Token
    const kind = word.text as 'if' | 'with'
    this.#deeper(word.at)
    const pipe = this.#pipe('close')
    const before = this.#dotIsRoot
    if (kind === 'with') this.#dotIsRoot = false
    const { nodes: body, end } = this.#list()
    this.#dotIsRoot = before
    let otherwise: readonly TemplateNode[] = []
    if (end?.text === 'else') otherwise = this.#otherwise(kind, word.at)
    else this.#closeBlock(end, kind, word.at)
    this.#depth--
    return { kind, pipe, body, otherwise }
  }

  #otherwise (kind: 'if' | 'with', at: number): readonly TemplateNode[] {
    const next = this.#peek()
    if (next?.kind === 'word' && next.text === kind) return [this.#block()]
    this.#expect('close')
    const { nodes, end } = this.#list()
    this.#closeBlock(end, kind, at)
    return nodes
  }

  #closeBlock (end: Token | undefined, kind: string, at: number): void {
    if (end?.text !== 'end') throw templateMalformed(`{{ ${kind} }} has no {{ end }}`, at)
    this.#expect('close')
  }

  /** @param until also taken */
  #pipe (until: 'close' | 'right'): Pipe {
    const at = this.#peek()?.at ?? this.#length
    const commands: Command[] = []
    for (;;) {
      commands.push(this.#command())
      const token = this.#take()
      if (token?.kind === until) break
      if (token?.kind !== 'pipe') throw this.#unexpected(token)
    }
    for (const { name, at } of commands.slice(1)) {
      if (name === undefined) throw templateMalformed('what follows | must be a function', at)
    }
    return { commands, at }
  }

  #command (): Command {
    const first = this.#peek()
    const at = first?.at ?? this.#length
    let name: string | undefined
    if (first?.kind === 'word' && !constants.has(first.text)) {
      name = checkFunction(first, this.#functions)
      this.#take()
    }
    const operands: Operand[] = []
    for (let token = this.#peek(); token !== undefined && !ends.has(token.kind); token = this.#peek()) operands.push(this.#operand())
    if (name === undefined && operands.length === 0) throw templateMalformed('a value is missing', at)
    if (name === undefined && operands.length > 1) throw templateMalformed('a value takes no arguments', operands[1]?.at ?? at)
    return { name, operands, at }
  }

  #operand (): Operand {
    const token = this.#take() as Token
    const { kind, text, at } = token
    if (kind === 'string') return { kind: 'constant', value: text, at }
    if (kind === 'number') return { kind: 'constant', value: parseNumber(token), at }
    if (kind === 'word' && constants.has(text)) return { kind: 'constant', value: constants.get(text) as boolean | null, at }
    // A function without arguments.
    if (kind === 'word') {
      return { kind: 'fields', of: { commands: [{ name: checkFunction(token, this.#functions), operands: [], at }], at }, names: [], at }
    }
    if (kind === 'variable' && text !== '$') throw templateMalformed(`variables (${text}) are not offered`, at)
    if (kind === 'left') {
      this.#deeper(at)
      const of = this.#pipe('right')
      this.#depth--
      return { kind: 'fields', of, names: this.#names(), at }
    }
    if (kind === 'variable') return this.#checked({ kind: 'fields', of: 'root', names: this.#names(), at })
    if (kind === 'dot') return { kind: 'fields', of: 'dot', names: [], at }
    if (kind === 'field') return this.#checked({ kind: 'fields', of: 'dot', names: [text, ...this.#names()], at })
    throw this.#unexpected(token)
  }

  /** Fields that follow without a space. */
  #names (): string[] {
    const names: string[] = []
    while (this.#tokens[this.#next]?.kind === 'field') names.push((this.#tokens[this.#next++] as Token).text)
    return names
  }

  #checked (operand: Operand & { readonly kind: 'fields' }): Operand {
    if (operand.of === 'root' || this.#dotIsRoot) checkNames(this.#fields, operand.names, operand.at)
    return operand
  }

  #deeper (at: number): void {
    if (++this.#depth > maxDepth) throw templateMalformed(`is nested deeper than ${maxDepth}`, at)
  }

  #skip (): void { while (this.#tokens[this.#next]?.kind === 'space') this.#next++ }

  #peek (): Token | undefined {
    this.#skip()
    return this.#tokens[this.#next]
  }

  #take (): Token | undefined {
    this.#skip()
    return this.#tokens[this.#next++]
  }

  #expect (kind: TokenKind): void {
    const token = this.#take()
    if (token?.kind !== kind) throw this.#unexpected(token)
  }

  #unexpected (token: Token | undefined): Error {
    if (token === undefined) return templateMalformed('ends in the middle', this.#length)
    return templateMalformed(`unexpected ${described[token.kind] ?? JSON.stringify(token.text)}`, token.at)
  }
}

const described: Readonly<Partial<Record<TokenKind, string>>> = {
  char: 'character constant', declare: ':=: variables are not offered', assign: '=: variables are not offered'
}
const ends = new Set<TokenKind>(['pipe', 'close', 'right', 'comma', 'declare', 'assign'])
const constants = new Map<string, boolean | null>([['true', true], ['false', false], ['nil', null]])

function checkFunction ({ text, at }: Token, { offered, refused }: TemplateFunctions): string {
  if (offered.has(text)) return text
  if (refusedKeywords.has(text)) throw templateMalformed(`{{ ${text} }} is not offered`, at)
  if (refused.has(text)) throw templateMalformed(`the function ${text} is not offered`, at)
  throw templateMalformed(`there is no function ${text}; offered are ${[...offered.keys()].join(', ')}`, at)
}

function parseNumber ({ text, at }: Token): number {
  if (!/^[+-]?\d{1,9}$/.test(text)) throw templateMalformed(`the number ${text} is not offered: give a whole one`, at)
  return Number(text)
}

/** @throws {SpiffeError} `template_malformed` where a name is no field of what stands before it */
function checkNames (fields: FieldType, names: readonly string[], at: number): void {
  let type = fields
  let path = ''
  for (const name of names) {
    if (type.kind === 'map') return
    const known = type.kind === 'record' ? type.fields : {}
    if (!Object.hasOwn(known, name)) throw templateMalformed(noField(path, name, Object.keys(known)), at)
    type = known[name]?.type as FieldType
    path += `.${name}`
  }
}

export function noField (path: string, name: string, known: readonly string[]): string {
  const offered = known.length === 0 ? 'it has none' : `offered are ${known.join(', ')}`
  return `there is no field .${name}${path === '' ? '' : ` of ${path}`}; ${offered}`
}
