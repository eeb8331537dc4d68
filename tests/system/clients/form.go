// Sends the files named on standard input (one a line, UTF-8 in hexadecimal) as one form, by net/http.
package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
)

func main() {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		name, _ := hex.DecodeString(lines.Text())
		part, err := form.CreateFormFile("file", string(name))
		if err != nil {
			panic(err)
		}
		part.Write([]byte("x"))
	}
	form.Close()
	answer, err := http.Post(os.Args[1]+"/api/v1/submissions", form.FormDataContentType(), &body)
	if err != nil {
		panic(err)
	}
	text, _ := io.ReadAll(answer.Body)
	fmt.Println(string(text))
}
