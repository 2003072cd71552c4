import { encodeMessage } from '../../wire/encode-message.ts'
import { MessageType, type AnyMessageType, type EnumType } from '../../wire/message-type.ts'
import type { Methods, Service } from '../../wire/service.ts'
import { describeFields } from './describe-message.ts'
import {
  fileDescriptorType, type EnumDescriptor, type FileDescriptor, type MessageDescriptor, type ServiceDescriptor
} from './descriptor-types.ts'

/** The protos behind some services, one file per package, with just what the services reach. */
export interface FileDescriptors {
  /** Serialised, the file first, then all it imports; undefined: no such file. */
  byName (name: string): Uint8Array[] | undefined
  /** The file that defines a service, method, message or enum, given by full name. */
  bySymbol (symbol: string): Uint8Array[] | undefined
}

export function describeServices (services: ReadonlyArray<Service<Methods>>): FileDescriptors {
  const reached = new Reached()
  for (const { request, response } of services.flatMap(({ methods }) => Object.values(methods))) {
    reached.visit(request)
    reached.visit(response)
  }
  const symbols = new Map([...reached.messages.keys(), ...reached.enums.keys()].map(name => [name, fileOf(name)]))
  for (const { name: service, methods } of services) {
    symbols.set(service, fileOf(service))
    for (const { name } of Object.values(methods)) symbols.set(`${service}.${name}`, fileOf(service))
  }
  const files = new Map([...new Set(symbols.values())].map(file => [file, describeFile(file, services, reached)]))
  const encoded = new Map([...files].map(([name, file]) => [name, encodeMessage(fileDescriptorType, file)]))
  const byName = (name: string) => {
    if (!files.has(name)) return undefined
    const names = new Set([name])
    for (const name of names) for (const imported of files.get(name)?.dependency ?? []) names.add(imported)
    return [...names].flatMap(name => encoded.get(name) ?? [])
  }
  return {
    byName,
    bySymbol (symbol) {
      const file = symbols.get(symbol)
      return file === undefined ? undefined : byName(file)
    }
  }
}

class Reached {
  readonly messages = new Map<string, AnyMessageType>()
  readonly enums = new Map<string, EnumType>()

  visit (type: AnyMessageType): void {
    if (this.messages.has(type.name)) return
    this.messages.set(type.name, type)
    for (const { type: inner } of type.fields) {
      if (inner instanceof MessageType) this.visit(inner)
      else if (typeof inner === 'object') this.enums.set(inner.name, inner)
    }
  }
}

function describeFile (file: string, services: ReadonlyArray<Service<Methods>>, reached: Reached): FileDescriptor {
  const inside = ({ name }: { readonly name: string }) => fileOf(name) === file
  const mine = [...reached.messages.values()].filter(inside)
  const offered = services.filter(inside)
  const mentioned = [
    ...mine.flatMap(({ fields }) => fields.flatMap(({ type }) => typeof type === 'string' ? [] : [type.name])),
    ...offered.flatMap(({ methods }) => Object.values(methods).flatMap(({ request, response }) => [request.name, response.name]))
  ]
  const imports = new Set(mentioned.map(fileOf))
  imports.delete(file)
  const first = offered[0] ?? mine[0] ?? [...reached.enums.values()].find(inside)
  const pack = packageOf(first?.name ?? '')
  const prefix = pack === '' ? '' : `${pack}.`
  return {
    name: file,
    package: pack,
    dependency: [...imports].toSorted(),
    messageType: childrenOf(prefix, reached).filter(name => fileOf(name) === file).map(name => describeMessage(name, reached)),
    enumType: enumsIn(prefix, reached).filter(({ name }) => fileOf(prefix + name) === file),
    service: offered.map(describeService),
    syntax: 'proto3'
  }
}

/** Messages that lie directly below a prefix, those included of which only an inner one is used. */
function childrenOf (prefix: string, { messages, enums }: Reached): string[] {
  const names = [...messages.keys(), ...[...enums.keys()].map(name => name.slice(0, name.lastIndexOf('.')))]
  const below = names.filter(name => name.startsWith(prefix)).map(name => prefix + name.slice(prefix.length).split('.')[0])
  return [...new Set(below)].filter(name => isTypeName(name.slice(prefix.length))).toSorted()
}

function describeMessage (name: string, reached: Reached): MessageDescriptor {
  const type = reached.messages.get(name) ?? new MessageType(name, () => [])
  const { field, nestedType, oneofDecl } = describeFields(type)
  return {
    name: name.slice(name.lastIndexOf('.') + 1),
    field,
    nestedType: [...nestedType, ...childrenOf(`${name}.`, reached).map(name => describeMessage(name, reached))],
    enumType: enumsIn(`${name}.`, reached),
    oneofDecl
  }
}

function enumsIn (prefix: string, { enums }: Reached): EnumDescriptor[] {
  return [...enums.values()].filter(({ name }) => name.startsWith(prefix) && !name.slice(prefix.length).includes('.')).map(type => ({
    name: type.name.slice(prefix.length),
    value: Object.entries(type.enum).map(([name, number]) => ({ name, number }))
  }))
}

function describeService ({ name, methods }: Service<Methods>): ServiceDescriptor {
  return {
    name: name.slice(name.lastIndexOf('.') + 1),
    method: Object.values(methods).map(({ name, kind, request, response }) => ({
      name,
      inputType: `.${request.name}`,
      outputType: `.${response.name}`,
      clientStreaming: kind === 'clientStream' || kind === 'bidi',
      serverStreaming: kind === 'serverStream' || kind === 'bidi'
    }))
  }
}

/** Packages are lower case and messages are not, in all protos we generate from. */
function packageOf (name: string): string {
  const parts = name.split('.')
  const first = parts.findIndex(isTypeName)
  return parts.slice(0, first).join('.')
}

function isTypeName (part: string): boolean { return /^[A-Z]/.test(part) }

/** One file per package, but those of Google's well-known types are called as everywhere. */
function fileOf (name: string): string {
  const pack = packageOf(name)
  if (pack !== 'google.protobuf') return `${pack === '' ? 'workload' : pack.replaceAll('.', '/')}.proto`
  const [type = ''] = name.slice(pack.length + 1).split('.')
  const inStruct = ['Struct', 'Value', 'ListValue', 'NullValue'].includes(type)
  const file = inStruct ? 'struct' : type.endsWith('Value') ? 'wrappers' : type.toLowerCase()
  return `google/protobuf/${file}.proto`
}
