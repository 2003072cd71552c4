import protobuf from 'protobufjs'
import { loadProtos } from './load-protos.ts'
import { fullName, packageOf } from './names.ts'
import { groups, type Output } from './outputs.ts'
import { printFile } from './print-file.ts'

export interface Reached {
  readonly messages: Map<string, protobuf.Type>
  readonly enums: Map<string, protobuf.Enum>
  readonly services: Map<string, protobuf.Service>
}

/** File name → text, of everything in `src/wire/generated`. */
export function generateWire (): Map<string, string> {
  const reached: Reached = { messages: new Map(), enums: new Map(), services: new Map() }
  for (const group of groups) reach(loadProtos(group.flatMap(output => output.protos)), group, reached)
  const outputs = groups.flat()
  const fileOf = new Map(outputs.flatMap(output => output.packages.map(pack => [pack, output.file])))
  for (const object of [...reached.messages.values(), ...reached.enums.values()]) {
    if (!fileOf.has(packageOf(object))) throw new Error(`${fullName(object)} is needed and its package has no output file`)
  }
  return new Map(outputs.map(output => [`${output.file}.ts`, printFile(output, reached, fileOf)]))
}

/** Collects the wanted messages and services of a group, and whatever these mention. */
function reach (root: protobuf.Root, group: readonly Output[], reached: Reached): void {
  const visit = (type: protobuf.ReflectionObject | null) => {
    if (type instanceof protobuf.Enum && !reached.enums.has(fullName(type))) reached.enums.set(fullName(type), type)
    if (!(type instanceof protobuf.Type) || reached.messages.has(fullName(type))) return
    reached.messages.set(fullName(type), type)
    for (const field of type.fieldsArray) visit(field.resolve().resolvedType)
  }
  for (const output of group) {
    for (const name of Object.keys(output.services)) {
      const service = root.lookupService(name)
      reached.services.set(name, service)
      for (const method of service.methodsArray) {
        method.resolve()
        visit(method.resolvedRequestType)
        visit(method.resolvedResponseType)
      }
    }
    for (const name of output.messages) {
      if (name === '*') {
        for (const pack of output.packages) visitAll(pack === '' ? root : root.lookup(pack), visit)
      } else {
        visit(root.lookupType(name))
      }
    }
  }
}

/** Every message of a package, not of the packages inside it. */
function visitAll (namespace: protobuf.ReflectionObject | null, visit: (type: protobuf.ReflectionObject) => void): void {
  if (!(namespace instanceof protobuf.Namespace)) throw new Error('no such package')
  for (const object of namespace.nestedArray) {
    if (object instanceof protobuf.Type) visitAll(object, visit)
    visit(object)
  }
}
