import { isDeepStrictEqual } from 'node:util'
import { isArray, isObject, type RegoObject, type RegoValue } from '../rego-value.ts'
import { NoValue, arrayOf, textOf } from './operand.ts'

/** Applies a JSON Patch (RFC 6902); paths may also be arrays of names, as OPA takes them. Sets are not gone into. */
export function applyPatch (document: RegoValue, operations: readonly RegoObject[]): RegoValue {
  return operations.reduce((value: RegoValue, operation): RegoValue => {
    const path = pathOf(operation['path'])
    switch (operation['op']) {
      case 'add': return change(value, path, 'add', memberOf(operation, 'value'))
      case 'replace': return change(value, path, 'replace', memberOf(operation, 'value'))
      case 'remove': return change(value, path, 'remove')
      case 'copy': return change(value, path, 'add', at(value, pathOf(operation['from'])))
      case 'move': {
        const from = pathOf(operation['from'])
        return change(change(value, from, 'remove'), path, 'add', at(value, from))
      }
      case 'test':
        if (!isDeepStrictEqual(at(value, path), memberOf(operation, 'value'))) throw new NoValue()
        return value
      default: throw new NoValue()
    }
  }, document)
}

function memberOf (operation: RegoObject, name: string): RegoValue {
  if (!Object.hasOwn(operation, name)) throw new NoValue()
  return operation[name] as RegoValue
}

function pathOf (path: RegoValue | undefined): string[] {
  if (typeof path !== 'string') return arrayOf(path).map(part => typeof part === 'number' ? String(part) : textOf(part))
  const trimmed = path.startsWith('/') ? path.slice(1) : path
  return path === '' ? [] : trimmed.split('/').map(part => part.replaceAll('~1', '/').replaceAll('~0', '~'))
}

function at (value: RegoValue, path: readonly string[]): RegoValue {
  return path.reduce((parent: RegoValue, name): RegoValue => {
    if (isArray(parent)) return parent[position(name, parent.length - 1)] as RegoValue
    if (!isObject(parent) || !Object.hasOwn(parent, name)) throw new NoValue()
    return parent[name] as RegoValue
  }, value)
}

function position (name: string, last: number): number {
  if (!/^(?:0|[1-9]\d*)$/.test(name) || Number(name) > last) throw new NoValue()
  return Number(name)
}

function change (
  value: RegoValue, [name, ...rest]: readonly string[], kind: 'add' | 'replace' | 'remove', made: RegoValue = null
): RegoValue {
  if (name === undefined) {
    if (kind === 'remove') throw new NoValue()
    return made
  }
  if (isArray(value)) {
    const last = rest.length === 0 && kind === 'add' ? value.length : value.length - 1
    const index = name === '-' && rest.length === 0 && kind === 'add' ? value.length : position(name, last)
    if (rest.length > 0) return value.with(index, change(value[index] as RegoValue, rest, kind, made))
    return kind === 'replace' ? value.with(index, made) : value.toSpliced(index, kind === 'remove' ? 1 : 0, ...kind === 'add' ? [made] : [])
  }
  if (!isObject(value)) throw new NoValue()
  const exists = Object.hasOwn(value, name)
  if (!exists && (rest.length > 0 || kind !== 'add')) throw new NoValue()
  const members = Object.entries(value).filter(([other]) => other !== name)
  if (rest.length > 0) members.push([name, change(value[name] as RegoValue, rest, kind, made)])
  else if (kind !== 'remove') members.push([name, made])
  return Object.fromEntries(members)
}
