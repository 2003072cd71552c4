import { field, MessageType, optional, repeated } from '../../wire/message-type.ts'

/** What we fill of `google/protobuf/descriptor.proto`. Scalars are explicit, as it is proto2. */
export interface FileDescriptor {
  readonly name: string
  readonly package: string
  readonly dependency: readonly string[]
  readonly messageType: readonly MessageDescriptor[]
  readonly enumType: readonly EnumDescriptor[]
  readonly service: readonly ServiceDescriptor[]
  readonly syntax: string
}

export interface MessageDescriptor {
  readonly name: string
  readonly field: readonly FieldDescriptor[]
  readonly nestedType: readonly MessageDescriptor[]
  readonly enumType: readonly EnumDescriptor[]
  readonly options?: { readonly mapEntry: boolean }
  readonly oneofDecl: ReadonlyArray<{ readonly name: string }>
}

export interface FieldDescriptor {
  readonly name: string
  readonly number: number
  /** 1 optional, 3 repeated. */
  readonly label: number
  readonly type: number
  /** With a leading dot. */
  readonly typeName?: string
  readonly oneofIndex?: number
  readonly jsonName: string
  readonly proto3Optional?: boolean
}

export interface EnumDescriptor { readonly name: string, readonly value: ReadonlyArray<{ readonly name: string, readonly number: number }> }
export interface ServiceDescriptor { readonly name: string, readonly method: readonly MethodDescriptor[] }

export interface MethodDescriptor {
  readonly name: string
  readonly inputType: string
  readonly outputType: string
  readonly clientStreaming: boolean
  readonly serverStreaming: boolean
}

const named = new MessageType<unknown, { readonly name: string }>('OneofDescriptorProto', () => [optional(1, 'name', 'string')])

const enumValue = new MessageType<unknown, EnumDescriptor['value'][number]>('EnumValueDescriptorProto', () => [
  optional(1, 'name', 'string'), optional(2, 'number', 'int32')
])

const enumDescriptor = new MessageType<unknown, EnumDescriptor>('EnumDescriptorProto', () => [
  optional(1, 'name', 'string'), repeated(2, 'value', enumValue)
])

const fieldDescriptor = new MessageType<unknown, FieldDescriptor>('FieldDescriptorProto', () => [
  optional(1, 'name', 'string'), optional(3, 'number', 'int32'), optional(4, 'label', 'int32'), optional(5, 'type', 'int32'),
  optional(6, 'typeName', 'string'), optional(9, 'oneofIndex', 'int32'), optional(10, 'jsonName', 'string'),
  optional(17, 'proto3Optional', 'bool')
])

const messageOptions = new MessageType<unknown, { readonly mapEntry: boolean }>('MessageOptions', () => [optional(7, 'mapEntry', 'bool')])

const messageDescriptor: MessageType<unknown, MessageDescriptor> = new MessageType('DescriptorProto', () => [
  optional(1, 'name', 'string'), repeated(2, 'field', fieldDescriptor), repeated(3, 'nestedType', messageDescriptor),
  repeated(4, 'enumType', enumDescriptor), field(7, 'options', messageOptions), repeated(8, 'oneofDecl', named)
])

const methodDescriptor = new MessageType<unknown, MethodDescriptor>('MethodDescriptorProto', () => [
  optional(1, 'name', 'string'), optional(2, 'inputType', 'string'), optional(3, 'outputType', 'string'),
  optional(5, 'clientStreaming', 'bool'), optional(6, 'serverStreaming', 'bool')
])

const serviceDescriptor = new MessageType<unknown, ServiceDescriptor>('ServiceDescriptorProto', () => [
  optional(1, 'name', 'string'), repeated(2, 'method', methodDescriptor)
])

export const fileDescriptorType = new MessageType<unknown, FileDescriptor>('FileDescriptorProto', () => [
  optional(1, 'name', 'string'), optional(2, 'package', 'string'), repeated(3, 'dependency', 'string'),
  repeated(4, 'messageType', messageDescriptor), repeated(5, 'enumType', enumDescriptor), repeated(6, 'service', serviceDescriptor),
  optional(12, 'syntax', 'string')
])
