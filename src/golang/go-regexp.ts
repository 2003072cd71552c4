/** Why a text is no regular expression that is taken. */
export class GoRegexpError extends Error {}

const compiled = new Map<string, RegExp>()
const maxCompiled = 200
const asciiClasses: Readonly<Record<string, string>> = {
  alnum: '0-9A-Za-z', alpha: 'A-Za-z', ascii: String.raw`\x00-\x7f`, blank: String.raw`\t `, cntrl: String.raw`\x00-\x1f\x7f`,
  digit: '0-9',
  graph: '!-~', lower: 'a-z', print: ' -~', punct: String.raw`!-\/:-@\[-\x60\{-~`, space: String.raw`\t\n\v\f\r `, upper: 'A-Z',
  word: '0-9A-Za-z_',
  xdigit: '0-9A-Fa-f'
}
/** Of `\d`, `\s`, `\w`: ASCII, as RE2 has them. */
const perlClasses: Readonly<Record<string, string>> = { d: '0-9', s: String.raw`\t\n\f\r `, w: '0-9A-Za-z_' }
const controls: Readonly<Record<string, number>> = { a: 7, f: 12, t: 9, n: 10, r: 13, v: 11 }

/**
 * Compiles a regular expression of RE2's syntax (https://github.com/google/re2/wiki/Syntax) into one of ECMAScript that finds the same,
 * for whole texts. What RE2 does not have (look-around, back-references) is refused; matching may take exponential time, unlike RE2's: only
 * under a time limit.
 * @throws {GoRegexpError} when RE2 would not take it, or it changes flags in the middle of a group, or has `(?U)` or `\C`
 */
export function compileGoRegexp (pattern: string): RegExp {
  const known = compiled.get(pattern)
  if (known !== undefined) return known
  let made: RegExp
  try {
    made = new RegExp(new Translator(pattern).translate(), 'gu')
  } catch (error) {
    throw error instanceof GoRegexpError ? error : new GoRegexpError((error as Error).message, { cause: error })
  }
  if (compiled.size >= maxCompiled) compiled.clear()
  compiled.set(pattern, made)
  return made
}

/** All matches from the left; an empty one right behind another is none, as Go has it. */
export function * matchesOf (regexp: RegExp, text: string): Generator<RegExpExecArray> {
  let end = -1
  for (const match of text.matchAll(regexp)) {
    if (match[0] === '' && match.index === end) continue
    end = match.index + match[0].length
    yield match
  }
}

/** `$1`, `${1}`, `$name`, `${name}` and `$$`, as Go expands them. */
export function expandReplacement (template: string, match: RegExpExecArray): string {
  return template.replaceAll(/\$(?:\$|(\w+)|\{(\w+)\})/g, (whole, bare?: string, braced?: string) => {
    if (whole === '$$') return '$'
    const name = bare ?? braced ?? ''
    return (/^\d+$/.test(name) ? match[Number(name)] : match.groups?.[name]) ?? ''
  })
}

interface Flags { readonly s: boolean, readonly m: boolean }

class Translator {
  readonly #pattern: string
  #at = 0
  #flags: Flags = { s: false, m: false }
  /** What each open group restores and closes with. */
  readonly #groups: Array<{ readonly flags: Flags, readonly close: string }> = []
  #out = ''
  /** Whether something stands here that can be repeated. */
  #repeatable = false
  /** Whether nothing but `(?flags)` stands in this group yet. */
  #fresh = true
  #extra = ''

  constructor (pattern: string) { this.#pattern = pattern }

  translate (): string {
    while (this.#at < this.#pattern.length) this.#next()
    if (this.#groups.length > 0) throw new GoRegexpError('a group is not closed')
    return this.#out + this.#extra
  }

  #next (): void {
    const character = this.#take()
    switch (character) {
      case '(': return this.#open()
      case ')': return this.#close()
      case '|': this.#out += '|'; this.#repeatable = false; this.#fresh = false; return
      case '*': case '+': case '?': return this.#repeat(character)
      case '{': {
        const count = this.#match(/\d+(?:,\d*)?\}/y)
        if (count !== undefined) return this.#repeat(`{${count}`)
        break
      }
      case '[': return this.#atom(this.#class())
      case '.': return this.#atom(this.#flags.s ? String.raw`[\s\S]` : String.raw`[^\n]`)
      case '^': return this.#atom(this.#flags.m ? String.raw`(?:(?<![^\n]))` : String.raw`(?:(?<![\s\S]))`)
      case '$': return this.#atom(this.#flags.m ? String.raw`(?:(?![^\n]))` : String.raw`(?:(?![\s\S]))`)
      case '\\': return this.#escape()
    }
    this.#atom(literal(character))
  }

  #atom (text: string): void {
    this.#out += text
    this.#repeatable = true
    this.#fresh = false
  }

  #repeat (operator: string): void {
    const bounds = /\d+/g[Symbol.match](operator) ?? []
    if (!this.#repeatable || bounds.some(bound => Number(bound) > 1000)) throw new GoRegexpError(`nothing that ${operator} can repeat`)
    this.#out += operator
    if (this.#pattern[this.#at] === '?') this.#out += this.#take()
    this.#repeatable = false
  }

  #open (): void {
    const flags = this.#flags
    const enter = (open: string) => {
      this.#groups.push({ flags, close: `${this.#extra})` })
      this.#out += open
      this.#extra = ''
      this.#repeatable = false
      this.#fresh = true
    }
    if (this.#pattern[this.#at] !== '?') return enter('(')
    this.#at++
    const name = this.#match(/P?<[A-Za-z_]\w*>/y)
    if (name !== undefined) return enter(`(?${name.replace('P', name.startsWith('P') ? '' : 'P')}`)
    const change = /^([ims]*)(?:-([ims]+))?([:)])$/.exec(this.#match(/[a-zA-Z-]*[:)]/y) ?? '')
    if (change === null) throw new GoRegexpError('a group of a kind that is not offered')
    const [, on = '', off = '', end] = change
    const set = { s: (flags.s || on.includes('s')) && !off.includes('s'), m: (flags.m || on.includes('m')) && !off.includes('m') }
    const fold = on.includes('i') ? '(?i:' : off.includes('i') ? '(?-i:' : '(?:'
    if (end === ':') {
      enter(fold)
    } else {
      if (!this.#fresh) throw new GoRegexpError('flags change in the middle of a group')
      this.#out += fold
      this.#extra += ')'
    }
    this.#flags = set
  }

  #close (): void {
    const group = this.#groups.pop()
    if (group === undefined) throw new GoRegexpError('a group is closed that was not opened')
    this.#out += `${this.#extra})`
    this.#extra = group.close.slice(0, -1)
    this.#flags = group.flags
    this.#repeatable = true
    this.#fresh = false
  }

  #escape (): void {
    const letter = this.#pattern[this.#at] ?? ''
    if (letter === 'Q') {
      const end = this.#pattern.indexOf(String.raw`\E`, this.#at)
      const quoted = this.#pattern.slice(this.#at + 1, end < 0 ? undefined : end)
      for (const character of quoted) this.#atom(literal(character))
      this.#at = end < 0 ? this.#pattern.length : end + 2
      return
    }
    const assertion: Readonly<Record<string, string>> = {
      A: String.raw`(?:(?<![\s\S]))`, z: String.raw`(?:(?![\s\S]))`, b: String.raw`(?:\b)`, B: String.raw`(?:\B)`
    }
    const known = assertion[letter]
    if (known !== undefined) { this.#at++; return this.#atom(known) }
    const set = this.#perlOrProperty()
    this.#atom(set === undefined ? literal(String.fromCodePoint(this.#escapedCode())) : `[${set.not ? '^' : ''}${set.text}]`)
  }

  /** Behind a backslash: a class, without its brackets. */
  #perlOrProperty (): { readonly text: string, readonly not: boolean } | undefined {
    const letter = this.#pattern[this.#at] ?? ''
    const perl = perlClasses[letter.toLowerCase()]
    if (perl !== undefined) { this.#at++; return { text: perl, not: letter !== letter.toLowerCase() } }
    const property = this.#match(/[pP](?:[A-Z]|\{\^?\w+\})/y)
    if (property === undefined) return undefined
    const name = property.slice(1).replaceAll(/[{}^]/g, '')
    const form = /^[A-Z][a-z]?$/.test(name) ? name : `Script=${name}`
    return { text: String.raw`\p{${form}}`, not: property.startsWith('P') !== property.includes('^') }
  }

  /** Behind a backslash: one character. */
  #escapedCode (): number {
    const numeric = this.#match(/x[0-9A-Fa-f]{2}|x\{[0-9A-Fa-f]{1,6}\}|0[0-7]{0,2}|[1-7][0-7]{1,2}/y)
    if (numeric !== undefined) return numeric.startsWith('x') ? parseInt(numeric.replaceAll(/[x{}]/g, ''), 16) : parseInt(numeric, 8)
    const character = this.#take()
    const control = controls[character]
    if (control !== undefined) return control
    if (/^[\w]$/.test(character) || (character.codePointAt(0) ?? 0x80) >= 0x80) throw new GoRegexpError(`\\${character} is not offered`)
    return character.codePointAt(0) as number
  }

  #class (): string {
    const not = this.#match(/\^/y) !== undefined
    const parts: string[] = []
    // Negated classes inside one (`[^\D]`) have no form in brackets, so they stand beside them.
    const negated: string[] = []
    for (let first = true; first || this.#pattern[this.#at] !== ']'; first = false) {
      const named = this.#match(/\[:\^?[a-z]+:\]/y)
      if (named !== undefined) {
        const text = asciiClasses[named.replaceAll(/[^a-z]/g, '')]
        if (text === undefined) throw new GoRegexpError(`there is no class ${named}`)
        if (named.includes('^')) negated.push(text)
        else parts.push(text)
        continue
      }
      if (this.#pattern[this.#at] === '\\') {
        this.#at++
        const set = this.#perlOrProperty()
        if (set !== undefined) { (set.not ? negated : parts).push(set.text); continue }
        this.#at--
      }
      parts.push(this.#range())
    }
    this.#at++
    const choices = [...parts.length > 0 ? [`[${parts.join('')}]`] : [], ...negated.map(text => `[^${text}]`)]
    if (negated.length === 0) return `[${not ? '^' : ''}${parts.join('')}]`
    return not ? `(?:(?!${choices.join('|')})[\\s\\S])` : `(?:${choices.join('|')})`
  }

  #range (): string {
    const from = this.#classCharacter()
    if (this.#pattern[this.#at] !== '-' || this.#pattern[this.#at + 1] === ']') return hex(from)
    this.#at++
    const to = this.#classCharacter()
    if (to < from) throw new GoRegexpError('a range ends before it begins')
    return `${hex(from)}-${hex(to)}`
  }

  #classCharacter (): number {
    const character = this.#take()
    return character === '\\' ? this.#escapedCode() : character.codePointAt(0) as number
  }

  #take (): string {
    const code = this.#pattern.codePointAt(this.#at)
    if (code === undefined) throw new GoRegexpError('ends in the middle')
    const character = String.fromCodePoint(code)
    this.#at += character.length
    return character
  }

  #match (form: RegExp): string | undefined {
    form.lastIndex = this.#at
    const [found] = form.exec(this.#pattern) ?? []
    if (found !== undefined) this.#at += found.length
    return found
  }
}

function literal (character: string): string {
  return /^[A-Za-z0-9]$/.test(character) ? character : hex(character.codePointAt(0) as number)
}

function hex (code: number): string { return `\\u{${code.toString(16)}}` }
