// As much of Node.js as the tests use, for the type checker.

declare module "node:assert/strict" {
  interface Assert {
    (value: unknown, message?: string): asserts value;
    ok(value: unknown, message?: string): asserts value;
    equal(actual: unknown, expected: unknown, message?: string): void;
    deepEqual(actual: unknown, expected: unknown, message?: string): void;
    notDeepEqual(actual: unknown, expected: unknown, message?: string): void;
    match(text: string, pattern: RegExp, message?: string): void;
    doesNotMatch(text: string, pattern: RegExp, message?: string): void;
    throws(action: () => unknown, expected?: RegExp | (new (...args: any[]) => Error), message?: string): void;
    rejects(promise: Promise<unknown>, expected?: RegExp | (new (...args: any[]) => Error) | ((error: unknown) => boolean)): Promise<void>;
    fail(message: string): never;
  }
  const assert: Assert;
  export default assert;
}

declare module "node:test" {
  export interface Mocked {
    mock: { calls: { arguments: any[] }[] };
  }
  export interface TestContext {
    diagnostic(message: string): void;
    after(action: () => unknown): void;
    mock: { method(object: any, name: string, implementation: (...args: any[]) => unknown): Mocked };
  }
  export function test(name: string, action: (t: TestContext) => unknown): void;
  export function beforeEach(action: () => unknown): void;
}

declare module "node:buffer" {
  export const File: typeof globalThis.File;
}

declare module "node:crypto" {
  export const webcrypto: typeof globalThis.crypto;
  export function createHash(name: string): { update(bytes: Uint8Array): { digest(encoding: string): string } };
}

declare module "node:fs" {
  export function readFileSync(address: URL, encoding: "utf8"): string;
  export function readdirSync(folder: URL): string[];
}

declare module "node:fs/promises" {
  export function readFile(address: URL, encoding: "utf8"): Promise<string>;
}

declare module "node:module" {
  export function register(specifier: string): void;
}

declare function setImmediate(action: (_: void) => void): void;
declare const process: { env: Record<string, string | undefined> };
